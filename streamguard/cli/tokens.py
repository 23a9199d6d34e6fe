"""``streamguard tokens``: who may use the API. A token is shown once; the file has its hash alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from streamguard.cli import console
from streamguard.errors import UsageError
from streamguard.server.auth import Role, TokenFile

app = typer.Typer(help="Who may use the API.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for.")]
_File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The file of tokens.")]
_Config = Annotated[Path | None, typer.Option("--config", help="streamguard.yaml: its api.tokens names the file.")]


@app.command("add")
def add(
    name: _Name,
    role: Annotated[
        Role, typer.Option(help="A viewer reads; an operator changes too; a sender sends a stream by WHIP, no more.")
    ] = Role.VIEWER,
    hours: Annotated[
        float | None, typer.Option(min=0.001, max=87_600, metavar="HOURS", help="It expires after that time.")
    ] = None,
    file: _File = None,
    config: _Config = None,
) -> None:
    """Make a token and print it, once: nothing can show it again."""
    console.output().print(Text(_tokens(file, config).add(name, role, hours)))


@app.command("list")
def list_(file: _File = None, config: _Config = None) -> None:
    """Show whose tokens there are."""
    table = Table("name", "role", "id", "created", "expires", box=None)
    for token in _tokens(file, config).tokens():
        table.add_row(token.name, token.role.value, token.id, token.created, token.expires or "never")
    console.output(width=console.WIDE).print(table)


@app.command("remove")
def remove(name: _Name, file: _File = None, config: _Config = None) -> None:
    """Make a token worthless, at once."""
    _tokens(file, config).remove(name)


def _tokens(file: Path | None, config: Path | None) -> TokenFile:
    from streamguard.config import load_config

    if file is not None:
        return TokenFile(file)
    path = None if config is None else load_config(config).api.tokens
    if path is None:
        raise UsageError("Which tokens? Name --file FILE, or a --config with api.tokens.")
    return TokenFile(path)
