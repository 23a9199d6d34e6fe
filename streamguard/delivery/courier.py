"""The courier: carries events from the analysis to the sinks, so that a slow sink never slows the analysis."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkClosed, SinkError
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

Write = Callable[[Event], None]

BOUND: Final = 10_000
"""Events that may wait: hours of an ordinary stream. A sink slower than that loses events, which are counted."""


class Courier:
    """A thread that hands each event to every sink, in order.

    ``sinks`` by name: functions that take an event, or raise :class:`SinkError`. What a sink did not take is
    counted in ``streamguard_sink_deliveries_total`` and in :attr:`lost`; the first loss of each sink is logged. A sink
    that raises :class:`SinkClosed` is not waited for: it gets nothing more, and ``on_closed`` is told its name.
    """

    def __init__(
        self, sinks: Mapping[str, Write], metrics: Metrics, on_closed: Callable[[str], None], bound: int = BOUND
    ) -> None:
        self.lost = 0
        self._sinks = dict(sinks)
        self._metrics = metrics
        self._on_closed = on_closed
        self._complained: set[str] = set()
        self._waiting: queue.Queue[Event | None] = queue.Queue(bound)
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def take(self, event: Event) -> None:
        """Accept an event, from any thread, without waiting."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            for name in list(self._sinks):
                why = f"'{name}' is {self._waiting.maxsize} events behind; what comes now is lost."
                self._lose(name, "overflow", why)

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            for name in list(self._sinks):
                self._deliver(name, event)

    def _deliver(self, name: str, event: Event) -> None:
        try:
            self._sinks[name](event)
        except SinkClosed as error:
            log.warning("%s", error)
            self._metrics.sink_deliveries.labels(name, "closed").inc()
            del self._sinks[name]
            self._on_closed(name)
        except SinkError as error:
            self._lose(name, "failed", str(error))
        else:
            self._metrics.sink_deliveries.labels(name, "delivered").inc()

    def _lose(self, name: str, outcome: str, why: str) -> None:
        self.lost += 1
        self._metrics.sink_deliveries.labels(name, outcome).inc()
        if name not in self._complained:
            self._complained.add(name)
            log.error("%s", why)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deliver what waits, then end."""
        self._waiting.put(None)
        self._thread.join()
