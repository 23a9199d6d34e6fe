"""Who gets the events of a run: people, ``--events``, and the sinks of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console

from streamguard.cli.lines import event_line
from streamguard.errors import UsageError

if TYPE_CHECKING:
    from streamguard.config import Config
    from streamguard.delivery.dispatch import Consumer
    from streamguard.delivery.events import Event

EVENTS: Final = "events"
PEOPLE: Final = "console"


class People:
    """Prints what people want to know of each event. In a thread of its own: a terminal may be held."""

    name = PEOPLE
    batch = 100

    def __init__(self, human: Console) -> None:
        from streamguard.delivery.blocking import BlockingCalls

        self._human = human
        self._calls = BlockingCalls("console")

    async def open(self) -> None:
        """Nothing: it is there."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Print the batch."""
        await self._calls.run(lambda: self._print(events))

    async def close(self) -> None:
        """End the thread."""
        self._calls.end()

    def _print(self, events: Sequence[Event]) -> None:
        for event in events:
            line = event_line(event)
            if line is not None:
                self._human.print(line)


def consumers(settings: Config, events: str | None, human: Console) -> list[Consumer]:
    """Everybody who gets the events of a run.

    Raises:
        UsageError: the file of ``--events`` can't be written, or a sink of the configuration can't be used.
    """
    from streamguard.delivery.dispatch import Consumer
    from streamguard.delivery.sinks import SinkError
    from streamguard.delivery.sinks.jsonl import JsonlSink
    from streamguard.outgoing import patient

    found = patient(settings)
    if events is not None:
        sink = JsonlSink(EVENTS, events)
        try:
            sink.prepare()
        except SinkError as error:
            raise UsageError(f"--events: {error}") from error
        found.append(Consumer(sink, patience=None))
    return [*found, Consumer(People(human), live=True, patience=None)]


def purpose(settings: Config, events: str | None) -> str | None:
    """The sink without whose reader a run has no purpose: what was asked for on the command line, else people, unless
    the configuration has sinks."""
    if events is not None:
        return EVENTS
    return None if settings.sinks else PEOPLE
