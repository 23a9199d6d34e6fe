"""``streamguard evidence``: keys to sign with, and what a file's content credentials are worth."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streamguard.cli import console

if TYPE_CHECKING:
    from streamguard.delivery.credentials import Credentials

app = typer.Typer(help="What is kept of segments: keys to sign it, and checks.", no_args_is_help=True)

_SAID: Final = {
    "trusted": "signed, not changed since, and the signer's authority is one of those you trust",
    "untrusted": "signed and not changed since; who signed is not vouched for by an authority you trust",
    "tampered": "changed after it was signed",
    "invalid": "signed, but not as the standard wants it",
    "absent": "no content credentials. That means nothing: most media have none, and any tool can remove them",
}


@app.command("keygen")
def keygen(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the keys go; made if it is not there.")],
    name: Annotated[str, typer.Option(help="Of the signer, as others will read it.")] = "StreamGuard",
    organisation: Annotated[str, typer.Option(help="Whose it is.")] = "self-signed",
) -> None:
    """Make a certificate authority of your own and a signer: keys that only you can read, never overwritten."""
    from streamguard.delivery.authority import generate

    written = generate(folder, name, organisation)
    out = console.output()
    for path in written:
        out.print(str(path))
    out.print(
        "Sign with evidence: {sign: {certificates: signer.pem, key_file: signer.key}}. Give authority.pem to whoever is"
        " to verify, and keep authority.key off this machine.",
        style="dim",
    )


@app.command("verify")
def verify(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A signed file, anybody's; or a folder of evidence.")],
    trust: Annotated[
        Path | None, typer.Option(metavar="ANCHORS", help="PEM file of the authorities that you trust.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a file.")] = False,
) -> None:
    """Who signed a file, and whether it was changed since.

    Exit code 0: it is what was signed, and trusted if --trust was given. 1: tampered, invalid, not trusted although
    --trust was given, without credentials, or not readable. 2: wrong use.
    """
    from streamguard.delivery.credentials import Standing, read_credentials
    from streamguard.delivery.dossier import read_manifest

    files = [path]
    if path.is_dir():
        manifest = read_manifest(path)
        console.output(stderr=as_json).print(f"{path}: {len(manifest['files'])} files are what the manifest states.")
        files = [path / name for name in ("clip.mp4", "clip.mov", "still.jpg") if name in manifest["files"]]
    good = {Standing.TRUSTED} if trust is not None else {Standing.TRUSTED, Standing.UNTRUSTED}
    failed = not files
    for file in files:
        credentials = read_credentials(file, trust)
        _say(file, credentials, as_json)
        failed |= credentials.standing not in good
        if path.is_dir() and file.suffix == ".jpg":
            failed |= not _agrees(manifest, credentials)
    raise typer.Exit(1 if failed else 0)


def _agrees(manifest: dict[str, dict[str, dict[str, str]]], credentials: Credentials) -> bool:
    """Whether the folder's files are those that the still's signature speaks for."""
    stated = (credentials.verdict or {}).get("files", {})
    changed = [name for name, digest in stated.items() if manifest["files"].get(name, {}).get("sha256") != digest]
    for name in changed:
        console.complain(f"'{name}' is not the file that was signed for in still.jpg.")
    return not changed


def _say(path: Path, credentials: Credentials, as_json: bool) -> None:
    if as_json:
        console.output().print(json.dumps({"path": str(path), **asdict(credentials)}, default=str), markup=False)
        return
    out = console.output()
    out.print(f"{path}: {credentials.standing.value}: {_SAID[credentials.standing.value]}.", markup=False)
    issuer = f" ({credentials.issuer})" if credentials.issuer else ""
    lines = {
        "signer": credentials.signer and credentials.signer + issuer,
        "signed at": credentials.signed_at,
        "made by": credentials.generator,
        "title": credentials.title,
        "digital source type": ", ".join(credentials.source_types) or None,
        "problems": ", ".join(credentials.problems) or None,
    }
    for name, value in lines.items():
        if value:
            out.print(f"  {name}: {value}", markup=False)
    if credentials.verdict is not None:
        verdict = credentials.verdict
        out.print(f"  StreamGuard said: {verdict.get('state')} (segment {verdict.get('segment')})", markup=False)
