"""Content credentials (C2PA 2.4): signing what StreamGuard recorded, and reading what anybody signed.

A signature says who holds a key and that a file is what it was when it was signed; it does not say that what the file
shows is real. Needs the extra ``evidence`` (c2pa-python). Nothing is fetched from a network unless a time stamp
authority is configured: no remote manifests, no revocation lists.

Standard: https://spec.c2pa.org/specifications/specifications/2.4/specs/C2PA_Specification.html; source types:
https://cv.iptc.org/newscodes/digitalsourcetype/.
"""

from __future__ import annotations

import enum
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from streamguard.errors import EvidenceDamaged, EvidenceError, EvidenceMissing, UsageError
from streamguard.version import __version__

VERDICT: Final = "io.github.streamguard.verdict"
"""Label of the assertion that carries what StreamGuard says of the recording."""

_SOURCE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_FORMS: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4", ".mov": "video/quicktime"}
_CHANGED: Final = ("mismatch", "missing", "malformed", "outsideManifest", "undeclared", "inaccessible")

SourceType = Literal["digitalCapture", "screenCapture", "virtualRecording", "compositeCapture", "composite"]


@dataclass(frozen=True, slots=True)
class SignSettings:
    """``certificates``: PEM file, the signer's first, then its authority's; ``key_file``: the signer's key, PEM.

    ``source_type``: what the streams are, in IPTC's words; ``timestamps``: URL of a time stamp authority (RFC 3161).
    """

    certificates: str
    key_file: str
    source_type: SourceType = "digitalCapture"
    timestamps: str | None = None


class Signer:
    """Signs with one key."""

    def __init__(self, settings: SignSettings) -> None:
        """Read certificates and key.

        Raises:
            UsageError: they are absent, don't belong together, are not valid now, or the extra is not installed.
        """
        self._c2pa = c2pa = _library()
        self._settings = settings
        chain, key = _read(settings.certificates, "certificates"), _read(settings.key_file, "key_file")
        self.name = _common_name(chain, key, settings)
        info = c2pa.C2paSignerInfo(b"es256", chain, key, settings.timestamps)
        try:
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise UsageError(f"'{settings.certificates}' can't sign: {_words(error)}.") from error
        self._context = c2pa.Settings.from_dict(
            {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}
        )

    def sign(self, form: str, content: bytes, title: str, verdict: Mapping[str, Any]) -> bytes:
        """``content``, of MIME type ``form``, with credentials in it.

        Raises:
            EvidenceError: it can't be signed.
        """
        c2pa = self._c2pa
        signed = io.BytesIO()
        try:
            context = c2pa.Context(settings=self._context)
            builder = c2pa.Builder(json.dumps(self._claim(form, title, verdict)), context=context)
            builder.sign(self._signer, form, io.BytesIO(content), signed)
        except c2pa.C2paError as error:
            raise EvidenceError(f"{form} can't be signed: {_words(error)}.") from error
        return signed.getvalue()

    def _claim(self, form: str, title: str, verdict: Mapping[str, Any]) -> dict[str, Any]:
        # What StreamGuard did: it made this asset by recording a stream, packet by packet. Of what the stream shows,
        # and whether that is real, the verdict beside it speaks.
        created = {
            "action": "c2pa.created",
            "digitalSourceType": _SOURCE + self._settings.source_type,
            "softwareAgent": {"name": "StreamGuard", "version": __version__},
            "parameters": {"description": "Recorded from a stream as received; not edited, video not encoded again."},
        }
        return {
            "claim_generator_info": [{"name": "StreamGuard", "version": __version__}],
            "title": title,
            "format": form,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                {"label": VERDICT, "data": dict(verdict)},
            ],
        }


class Standing(enum.StrEnum):
    """What can be said of a file's credentials."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    TAMPERED = "tampered"
    INVALID = "invalid"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a file says of itself, and whether that holds.

    ``source_types`` are URIs of the active manifest's actions; ``problems`` the standard's codes of what is wrong.
    """

    standing: Standing
    signer: str | None = None
    issuer: str | None = None
    signed_at: str | None = None
    generator: str | None = None
    title: str | None = None
    source_types: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    verdict: Mapping[str, Any] | None = None


def read_credentials(path: Path, anchors: Path | None = None) -> Credentials:
    """Read and check a file's credentials; ``anchors`` is a PEM file of authorities that are trusted.

    Raises:
        EvidenceMissing: no such file. EvidenceError: a format that can't carry credentials.
        UsageError: ``anchors`` can't be read, or the extra is not installed.
    """
    c2pa = _library()
    trusted = "" if anchors is None else _read(str(anchors), "--trust").decode(errors="replace")
    if anchors is not None and "BEGIN CERTIFICATE" not in trusted:
        raise UsageError(f"'{anchors}' holds no certificate. Name a PEM file.")
    settings: dict[str, Any] = {"verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}}
    if trusted:
        settings["trust"] = {"trust_anchors": trusted}
    try:
        with path.open("rb") as file:
            context = c2pa.Context(settings=c2pa.Settings.from_dict(settings))
            with c2pa.Reader(_form(path), file, context=context) as reader:
                return _credentials(json.loads(reader.json()), reader.get_validation_state())
    except FileNotFoundError as error:
        raise EvidenceMissing(f"'{path}' does not exist. Check the path.") from error
    except OSError as error:
        raise EvidenceDamaged(f"'{path}' can't be read: {error.strerror}.") from error
    except c2pa.C2paError.ManifestNotFound:
        return Credentials(Standing.ABSENT)
    except c2pa.C2paError.NotSupported as error:
        raise EvidenceError(f"'{path}' is of a format that carries no C2PA credentials.") from error
    except c2pa.C2paError as error:
        return Credentials(Standing.TAMPERED, problems=(_words(error),))


def _credentials(store: Mapping[str, Any], state: str | None) -> Credentials:
    manifest = store["manifests"][store["active_manifest"]]
    signature = manifest.get("signature_info") or {}
    problems = tuple(sorted({str(status["code"]) for status in store.get("validation_status") or ()}))
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    verdicts = [a["data"] for a in manifest.get("assertions", ()) if a["label"] == VERDICT]
    generators = manifest.get("claim_generator_info") or [{}]
    generator = " ".join(str(generators[0][key]) for key in ("name", "version") if key in generators[0])
    return Credentials(
        standing=_standing(state, problems),
        signer=signature.get("common_name"),
        issuer=signature.get("issuer"),
        signed_at=signature.get("time"),
        generator=generator or manifest.get("claim_generator"),
        title=manifest.get("title"),
        source_types=tuple(str(a["digitalSourceType"]) for a in actions if "digitalSourceType" in a),
        problems=problems,
        verdict=verdicts[0] if verdicts else None,
    )


def _standing(state: str | None, problems: tuple[str, ...]) -> Standing:
    if state == "Trusted":
        return Standing.TRUSTED
    if state == "Valid":
        return Standing.UNTRUSTED
    changed = any(code.rpartition(".")[2] in _CHANGED for code in problems)
    return Standing.TAMPERED if changed else Standing.INVALID


def _form(path: Path) -> str:
    """What the library is told of a file; it looks for itself too."""
    suffix = path.suffix.lower()
    return _FORMS.get(suffix, suffix.lstrip("."))


def _library() -> ModuleType:
    try:
        import c2pa
    except ImportError as error:
        raise UsageError("Content credentials need c2pa-python: pip install 'streamguard[evidence]'.") from error
    module: ModuleType = c2pa
    return module


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{what}: '{path}' can't be read: {error.strerror}.") from error


def _common_name(chain: bytes, key: bytes, settings: SignSettings) -> str:
    """The signer's name, if its certificate is valid and of that key."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        secret = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:  # never its text: it might quote the key
        raise UsageError(
            f"'{settings.certificates}' and '{settings.key_file}' are no certificate and unencrypted key in PEM."
        ) from error
    if not isinstance(secret, EllipticCurvePrivateKey) or not isinstance(secret.curve, SECP256R1):
        raise UsageError(f"'{settings.key_file}' is no P-256 key, the kind that is used here (ES256).")
    if leaf.public_key() != secret.public_key():
        raise UsageError(f"'{settings.key_file}' is not the key of '{settings.certificates}'.")
    if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
        raise UsageError(f"'{settings.certificates}' is valid to {leaf.not_valid_after_utc:%Y-%m-%d} only. Renew it.")
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else leaf.subject.rfc4514_string()


def _words(error: Exception) -> str:
    """What the library says, on one line."""
    return " ".join(str(error).split())[:200]
