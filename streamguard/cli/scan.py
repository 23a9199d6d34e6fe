"""``streamguard scan``: pictures, videos and folders in, one verdict a file out."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from streamguard.cli import console
from streamguard.cli.lines import STYLES, clock
from streamguard.cli.logs import leave_inputs_to_the_verb
from streamguard.errors import UsageError, redact

if TYPE_CHECKING:
    from streamguard.scan import FileVerdict

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def scan(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, videos, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file, one line each.")] = False,
    config: Annotated[Path | None, typer.Option(help="streamguard.yaml.")] = None,
) -> None:
    """Judge files: one verdict each. A file that can't be read is named, and the exit code is 1."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from streamguard.config import load_config
    from streamguard.scan import expand
    from streamguard.scan import scan as judge

    for path in paths:
        if _URL.match(path):
            raise UsageError(f"'{redact(path)}' is no path. scan takes files and folders; watch takes URIs.")
    settings = load_config(config)
    leave_inputs_to_the_verb()
    files = expand(paths)
    beside = console.output(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=beside, transient=True, disable=not beside.is_terminal, redirect_stdout=False)
    out = beside if beside.is_terminal and sys.stdout.isatty() else console.output()
    counts: Counter[str] = Counter()
    with progress:
        task = progress.add_task("scanning", total=len(files))
        for verdict in judge(files, settings):
            counts["failed" if verdict.error else verdict.verdict.state.value] += 1
            _tell(out, verdict, as_json)
            progress.advance(task)
    if not as_json:
        summary = ", ".join(f"{counts[key]} {key}" for key in (*STYLES, "failed") if counts[key])
        beside.print(f"{len(files)} files: {summary}", style="dim")
    raise typer.Exit(1 if counts["failed"] else 0)


def _tell(out: Console, verdict: FileVerdict, as_json: bool) -> None:
    if as_json:
        out.print(Text(json.dumps(verdict.to_json(), ensure_ascii=False)))
        return
    state = verdict.verdict.state.value
    line = Text.assemble((f"{state:<12}  ", STYLES[state]), redact(verdict.path))
    if verdict.verdict.score is not None:
        line.append(f"  score {verdict.verdict.score:.2f}")
    if verdict.verdict.reason:
        line.append(f"  {verdict.verdict.reason}")
    flagged = [segment for track in verdict.tracks for segment in track.segments]
    for segment in flagged:
        end = "" if segment.ended is None else clock(segment.ended)
        line.append(f"  {segment.state.value} {clock(segment.started)} - {end}")
    if verdict.error:
        line.append(f"\n              {verdict.error}", "red")
    out.print(line)
