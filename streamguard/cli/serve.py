"""``streamguard serve``: the HTTP face with streams that come and go; it ends when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamguard.cli import console
from streamguard.cli.reload import source_of
from streamguard.cli.watch import EventsOption, ListenOption, run
from streamguard.errors import UsageError


def serve(
    config: Annotated[
        Path | None, typer.Option(help="streamguard.yaml: its streams are watched, its api says who may come.")
    ] = None,
    events: EventsOption = None,
    listen: ListenOption = None,
) -> None:
    """Serve the API; watch the streams of the configuration, and those that the API adds, until told to end."""
    from streamguard.config import load_config

    settings = load_config(config)
    if (settings.listen if listen is None else listen) in (None, "none"):
        raise UsageError("`streamguard serve` needs an address. Set listen, or give --listen HOST:PORT.")
    where = events or settings.events
    sources = [source_of(stream) for stream in settings.streams]
    whole = run(settings, sources, where, listen, None, console.output(stderr=where == "-"), config, stay=True)
    raise typer.Exit(0 if whole else 1)
