"""``streamguard replay``: does an evidence folder say the same when its clip is scored again?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from streamguard.cli import console

if TYPE_CHECKING:
    from streamguard.replay import Replay


def replay(
    folder: Annotated[Path, typer.Argument(metavar="SEGMENT_FOLDER", help="A folder of evidence: DIR/STREAM/SEGMENT.")],
    engine: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The classifier that scored, where it is not one that ships.")
    ] = None,
) -> None:
    """Score the frames of a segment's clip again: exit code 0 if scores and state are the same, else 1 and a diff.

    The engine, its variant and its backend must be those that scored; where they are not at hand, exit code 2.
    """
    from streamguard.replay import TOLERANCE
    from streamguard.replay import replay as run

    out = console.output()
    result = run(folder, engine)
    count = len(result.lines)
    if result.holds:
        out.print(
            f"{count} of {count} scores within {TOLERANCE:g}, the largest difference {result.largest:.2g};"
            f" state {result.found.value}, as recorded."
        )
        return
    _diff(result)
    raise typer.Exit(1)


def _diff(result: Replay) -> None:
    out = console.output(width=console.WIDE)
    wrong = [line for line in result.lines if not line.holds]
    if wrong:
        table = Table(box=None, pad_edge=False)
        for column in ("pts", "recorded", "found", "difference", "pixels"):
            table.add_column(column, justify="right", no_wrap=True)
        for line in wrong:
            found = "no such frame" if line.found is None else f"{line.found:+.4f}"
            difference = "" if line.difference is None else f"{line.difference:+.4f}"
            pixels = "" if line.found is None else "same" if line.same_pixels else "other"
            table.add_row(f"{line.pts:.3f}", f"{line.recorded:+.4f}", found, difference, pixels)
        out.print(table, crop=False)
    out.print(f"{len(wrong)} of {len(result.lines)} scores differ.")
    same = "as recorded" if result.found is result.recorded else f"recorded was {result.recorded.value}"
    out.print(f"State {result.found.value}, {same}.")
    if result.reencoded:
        out.print(
            "The clip was encoded again, since the sender's packets were not to be had: small differences are its loss."
        )
    if result.clip_error is not None:
        console.complain(result.clip_error)
