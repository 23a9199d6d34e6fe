"""Each opening of the test, in a log beside the engine's card, and shown in the card.

A test that is looked at often is no test. `lab evaluate --final` writes a line *before* it reads a picture of it, with
the date, the model and the reason; the figures follow when they are there. A line is never taken back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from streamguard.errors import InputUnreadable, UsageError
from streamguard.inference.engines import Engine

LOG: Final = "openings.jsonl"
CARD: Final = "CARD.md"
_BEGIN: Final = "<!-- openings of the test: written by `lab evaluate --final` -->"
_END: Final = "<!-- end of openings -->"


def opened(engine: Engine, because: str, now: datetime | None = None) -> int:
    """Log an opening; returns its number.

    Raises:
        UsageError: no reason is given, or the engine has no card.
    """
    if not because.strip():
        raise UsageError("--final opens the test. Say why: --because TEXT.")
    if not (engine.folder / CARD).is_file():
        raise UsageError(f"'{engine.folder}' has no {CARD} to log an opening in. Make the engine with `lab export`.")
    number = 1 + sum(line["kind"] == "opened" for line in openings(engine.folder))
    date = f"{(now or datetime.now(UTC)):%Y-%m-%d}"
    _add(engine.folder, {"kind": "opened", "number": number, "date": date, "version": engine.version,
                         "sha256": engine.sha256, "because": " ".join(because.split())})  # fmt: skip
    return number


def measured(engine: Engine, number: int, figures: Mapping[str, Any]) -> None:
    """Log what opening ``number`` gave: source -> value, low, high of the reference's AUC."""
    _add(engine.folder, {"kind": "measured", "number": number, "figures": figures})


def openings(folder: Path) -> list[dict[str, Any]]:
    """The log of an engine folder, oldest first; empty if there is none.

    Raises:
        InputUnreadable: a line of it is damaged.
    """
    file = folder / LOG
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise InputUnreadable(f"'{file}' is damaged: {error}. Restore it: openings of a test are kept.") from error


def with_openings(card: str, folder: Path) -> str:
    """``card`` with the openings of ``folder`` at its end, in place of those it holds."""
    before, begin, rest = card.partition(_BEGIN)
    after = rest.partition(_END)[2].lstrip("\n") if begin else ""
    text = "\n".join((_BEGIN, "", *_section(openings(folder)), "", _END, ""))
    return f"{before.rstrip()}\n\n{text}{after}"


def _section(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    title = "## Openings of the test"
    held = [line for line in lines if line["kind"] == "opened"]
    if not held:
        return [title, "", "The official test (`val`) was not opened for any version of this engine."]
    found = {line["number"]: line["figures"] for line in lines if line["kind"] == "measured"}
    rows = [
        f"| {line['number']} | {line['date']} | {line['version']} | `{line['sha256'][:16]}` | {line['because']} | "
        f"{_figures(found.get(line['number']))} |"
        for line in held
    ]
    return [title, "", "Every look at the official test (`val`), by any version. AUC of fp32 on plain crops.", "",
            "| | date | version | fp32, SHA-256 | why | AUC (95 % interval) |", "|---|---|---|---|---|---|",
            *rows]  # fmt: skip


def _figures(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "broken off"
    return "; ".join(f"{name} {f['value']:.3f} ({f['low']:.3f}-{f['high']:.3f})" for name, f in figures.items())


def _add(folder: Path, line: Mapping[str, Any]) -> None:
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    card = folder / CARD
    card.write_text(with_openings(card.read_text(encoding="utf-8"), folder), encoding="utf-8")
