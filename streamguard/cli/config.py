"""``streamguard config``: is a configuration right, and what may stand in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from streamguard.cli import console
from streamguard.cli.reload import source_of

app = typer.Typer(help="streamguard.yaml.", no_args_is_help=True)


@app.command("check")
def check(path: Annotated[Path, typer.Argument(metavar="FILE", help="streamguard.yaml")]) -> None:
    """Say what is wrong with a configuration: its keys, its streams' URIs, its sinks and their secrets, its engines.

    Keys that have another name since the release that it was written for are right, and named.
    """
    from streamguard.config import load_config
    from streamguard.decision.calibration import operating_point
    from streamguard.inference.engines import load_engine
    from streamguard.outgoing import configured

    out, renamed = console.output(), list[str]()
    config = load_config(path, say=renamed.append)
    for stream in config.streams:
        source_of(stream)
    sinks = configured(config)
    load_engine(config.detector.engine)
    classifier = load_engine(config.classifier.engine)
    operating_point(classifier.manifest, config.operating_point)
    found = _counted(len(config.streams), "stream") + (f", {_counted(len(sinks), 'sink')}" if sinks else "")
    found += f", {_counted(len(renamed), 'key')} of an earlier release" if renamed else ""
    for line in renamed:
        out.print(Text(line))
    out.print(Text(f"{path}: right, {found}"))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of streamguard.yaml."""
    from streamguard.config import config_schema

    console.output().print(Text(json.dumps(config_schema(), indent=2, ensure_ascii=False)))
