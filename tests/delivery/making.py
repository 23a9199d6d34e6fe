"""Events and sinks for the delivery tests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from streamguard.delivery.events import EngineRef, Event, EventContext, EventFactory, SegmentKind, Timeline
from streamguard.delivery.outbox import Outbox
from streamguard.delivery.sinks import SinkError
from streamguard.delivery.vault import open_store
from streamguard.frames import Segment, State
from streamguard.metrics import Metrics

MEBIBYTE = 1 << 20
CONTEXT = EventContext("studio", "r7", "default", 0.0, (EngineRef("deepfake-steady", "b" * 64, "bf16"),))
TIMELINE = Timeline("file", lambda pts: 1_700_000_000 + pts)


class Made:
    """Events as the chain makes them."""

    def __init__(self, run: str = "r7") -> None:
        self._factory = EventFactory(EventContext("studio", run, "default", 0.0, CONTEXT.engines))
        self._count = 0

    def segment(self, kind: SegmentKind, number: int = 1, stream: str = "door", pts: float = 13.0) -> Event:
        """An event of one of the stream's segments, which began at 12 s."""
        ended = pts if kind == "closed" else None
        segment = Segment(f"{stream}.1.3.{number}", stream, 1, 3, 12.0, ended, State.FLAGGED, None, 1.5, 2.5, 31)
        return self._factory.segment(kind, segment, pts, TIMELINE)

    def up(self, stream: str = "door") -> Event:
        """A small event, each with another id."""
        self._count += 1
        return self._factory.stream("up", stream, self._count, at=float(self._count))


def fresh_metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def deliveries(metrics: Metrics, sink: str, outcome: str) -> float:
    labels = {"sink": sink, "outcome": outcome}
    return metrics.registry.get_sample_value("streamguard_sink_deliveries_total", labels) or 0.0


def stored(path: Path, metrics: Metrics | None = None, max_bytes: int = 64 * MEBIBYTE, **options) -> Outbox:
    """An outbox in a file."""
    return Outbox(open_store(path, max_bytes), metrics or fresh_metrics(), **options)


def until(condition: Callable[[], bool], limit: float = 60.0) -> None:
    """Wait for something to be so."""
    due = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < due, f"not within {limit} s"
        time.sleep(0.01)


class Listed:
    """A sink that keeps what it is given, and can be away, refuse, or never answer."""

    def __init__(self, name: str = "list", batch: int = 10) -> None:
        self.name = name
        self.batch = batch
        self.taken: list[Event] = []
        self.tried = 0
        self.opened = 0
        self.closed = 0
        self.fail: Callable[[Sequence[Event]], Exception | None] = lambda events: None
        self.silent = threading.Event()

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.taken]

    async def open(self) -> None:
        self.opened += 1

    async def deliver(self, events: Sequence[Event]) -> None:
        self.tried += 1
        while self.silent.is_set():
            await asyncio.sleep(3600)
        if (error := self.fail(events)) is not None:
            raise error
        self.taken += events

    async def close(self) -> None:
        self.closed += 1

    def away(self, yes: bool) -> None:
        """Take nothing from now on, or everything."""
        self.fail = (lambda events: SinkError(f"'{self.name}' is away")) if yes else (lambda events: None)
