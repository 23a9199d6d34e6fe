"""``streamguard outbox``: dead letters, the events that a sink will not have; while a StreamGuard runs or not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from streamguard.cli import console
from streamguard.errors import UsageError

if TYPE_CHECKING:
    from streamguard.delivery.letters import Chosen, DeadLetter, LetterBox

app = typer.Typer(help="Dead letters: events that a sink refused, or did not take in time.", no_args_is_help=True)

_Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER", help="Those of `list`.")]
_Number = Annotated[int, typer.Argument(metavar="NUMBER", help="One of `list`.")]
_Sink = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Those of this sink alone.")]
_All = Annotated[bool, typer.Option("--all", help="All of them.")]
_File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The outbox.")]
_Config = Annotated[Path | None, typer.Option("--config", help="streamguard.yaml: it says where the outbox is.")]
_Json = Annotated[bool, typer.Option("--json", help="One line of JSON a letter, with the whole event.")]


@app.command("list")
def list_(sink: _Sink = None, as_json: _Json = False, file: _File = None, config: _Config = None) -> None:
    """Show the dead letters: number, sink, event, and why it was given up."""
    out, count = console.output(), 0
    with _box(file, config) as box:
        for letter in box.letters(_chosen(None, sink)):
            count += 1
            out.print(Text(json.dumps(asdict(letter), ensure_ascii=False) if as_json else _line(letter)))
    if count == 0:
        console.output(stderr=True).print("There is no dead letter.", style="dim")


@app.command("show")
def show(number: _Number, sink: _Sink = None, file: _File = None, config: _Config = None) -> None:
    """Print the event of a dead letter."""
    with _box(file, config) as box:
        letter = next(box.letters(_chosen([number], sink)), None)
    if letter is None:
        console.complain(_absent(number, sink))
        raise typer.Exit(1)
    console.output().print(Text(json.dumps(letter.event, ensure_ascii=False, indent=2)))


@app.command("retry")
def retry(
    numbers: _Numbers = None, sink: _Sink = None, every: _All = False, file: _File = None, config: _Config = None
) -> None:
    """Have dead letters tried once more: by the StreamGuard that runs, within seconds, else by the next one.

    What is taken leaves the list; what is not stays, with the new reason.
    """
    chosen = _some(numbers, sink, every)
    with _box(file, config) as box:
        failed = _named_absent(box, numbers, sink)
        count = box.retry(chosen)
    console.output().print(f"{_letters(count)} will be tried once more.")
    raise typer.Exit(1 if failed else 0)


@app.command("drop")
def drop(
    numbers: _Numbers = None, sink: _Sink = None, every: _All = False, file: _File = None, config: _Config = None
) -> None:
    """Delete dead letters for good."""
    chosen = _some(numbers, sink, every)
    with _box(file, config) as box:
        failed = _named_absent(box, numbers, sink)
        count = box.drop(chosen)
    console.output().print(f"{_letters(count)} dropped.")
    raise typer.Exit(1 if failed else 0)


def _box(file: Path | None, config: Path | None) -> LetterBox:
    from streamguard.config import load_config, outbox_path
    from streamguard.delivery.letters import LetterBox

    path = file if file is not None else outbox_path(load_config(config))
    if path is None:
        raise UsageError("Which outbox? Name --file FILE, or the --config that the StreamGuard runs with.")
    return LetterBox(path)


def _some(numbers: list[int] | None, sink: str | None, every: bool) -> Chosen:
    if not (numbers or sink or every) or (every and (numbers or sink)):
        raise UsageError("Which dead letters? Name their NUMBERs, or --sink NAME, or --all.")
    return _chosen(numbers, sink)


def _chosen(numbers: list[int] | None, sink: str | None) -> Chosen:
    from streamguard.delivery.letters import Chosen

    return Chosen(numbers or (), sink)


def _named_absent(box: LetterBox, numbers: list[int] | None, sink: str | None) -> bool:
    """Name the letters that were asked for and are not there. Whether there were any."""
    there = {letter.number for letter in box.letters(_chosen(numbers, sink))} if numbers else set()
    absent = [number for number in numbers or () if number not in there]
    for number in absent:
        console.complain(_absent(number, sink))
    return bool(absent)


def _absent(number: int, sink: str | None) -> str:
    of = "" if sink is None else f" of sink '{sink}'"
    return f"there is no dead letter {number}{of}. Look at `list`."


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _line(letter: DeadLetter) -> str:
    """A line a letter: what a far side said may hold anything, so nothing but printable characters passes."""
    event = letter.event
    kind = str(event["type"]).removeprefix("streamguard.").removesuffix(".v1")
    again = "  (to be tried once more)" if letter.again else ""
    text = f"{letter.number:>7}  {letter.sink}  {kind}  {event['source']}/{event['id']}  {letter.reason}{again}"
    return "".join(character if character.isprintable() else " " for character in text)
