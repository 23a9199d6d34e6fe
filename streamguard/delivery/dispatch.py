"""The dispatcher: one thread, one event loop, a task for each sink. A sink that is away delays itself alone."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from streamguard.delivery.backlog import Row
from streamguard.delivery.events import Event
from streamguard.delivery.outbox import Outbox
from streamguard.delivery.retry import Retry, RetrySettings
from streamguard.delivery.sinks import LateSink, Sink, SinkClosed, SinkError, SinkRejected
from streamguard.delivery.store import Letter, StoreFailed
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

_BEAT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Consumer:
    """A sink and how it is treated. ``live``: it begins with the next event, and no run after this one knows of it.
    ``patience``: seconds that one call may take; None for a reader that may stand still as long as it likes."""

    sink: Sink
    live: bool = False
    patience: float | None = 30.0


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Seconds: ``max_age`` as in :class:`~streamguard.delivery.outbox.OutboxSettings`; ``grace`` for what waits when
    the run ends; ``ending`` for a call that was cancelled, or for closing a sink; ``look`` until an idle sink looks
    again for dead letters that somebody wants to be tried once more."""

    max_age: float = 604_800.0
    grace: float = 10.0
    ending: float = 5.0
    look: float = 5.0
    retry: RetrySettings = field(default_factory=RetrySettings)


class Dispatcher:
    """Brings the outbox' events to the sinks as long as the block lasts, then what waits, once more each.

    ``on_closed`` is told the name of a sink that nobody reads any more.
    """

    def __init__(
        self,
        outbox: Outbox,
        consumers: Sequence[Consumer],
        metrics: Metrics,
        on_closed: Callable[[str], None],
        settings: DispatchSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        settings, rng = settings or DispatchSettings(), rng or random.Random()
        self._ending = settings.ending
        self._lines = [_Line(outbox, consumer, metrics, on_closed, settings, rng) for consumer in consumers]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._beat = time.monotonic()
        self._ready = threading.Event()
        self._done = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="sinks", daemon=True)

    def wake(self) -> None:
        """There are new events; from any thread."""
        self._call(self._wake)

    def stuck_for(self) -> float:
        """Seconds since the loop last turned; infinite if it, or a sink's task, is gone."""
        if self._over:
            return 0.0
        if not self._thread.is_alive() or any(line.died for line in self._lines):
            return float("inf")
        return max(0.0, time.monotonic() - self._beat - _BEAT)

    def _wake(self) -> None:
        for line in self._lines:
            line.news.set()

    def _end(self) -> None:
        for line in self._lines:
            line.end()
        self._stop.set()

    def _call(self, what: Callable[[], object]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(what)
            except RuntimeError:  # it was closed in between
                return

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        beating = asyncio.create_task(self._beats())
        tasks = [asyncio.create_task(line.run(), name=line.name) for line in self._lines]
        self._ready.set()
        await self._stop.wait()
        if tasks:
            await asyncio.wait(tasks)
        beating.cancel()
        self._done.set()
        for task in tasks:
            task.result()

    async def _beats(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._call(self._end)
        while self._thread.is_alive() and not self._done.wait(1.0):
            pass
        self._thread.join(self._ending)  # a client that can't be cancelled is left behind


class _Line:
    """One sink's task: hand over, in order, what it has not."""

    def __init__(
        self,
        outbox: Outbox,
        consumer: Consumer,
        metrics: Metrics,
        on_closed: Callable[[str], None],
        settings: DispatchSettings,
        rng: random.Random,
    ) -> None:
        self.name = consumer.sink.name
        self.news = asyncio.Event()
        self.died = False
        self._outbox = outbox
        self._consumer = consumer
        self._metrics = metrics
        self._on_closed = on_closed
        self._settings = settings
        self._retry = Retry(rng, settings.retry)
        self._opened = False
        self._away = False
        self._failures = 0
        self._burying = False
        self._fair = True  # one dead letter at most between two batches: events go first
        self._ending = asyncio.Event()
        self._due = float("inf")

    def end(self) -> None:
        """The run is over: hand over what waits, without waiting for a sink that is away."""
        self._due = asyncio.get_running_loop().time() + self._settings.grace
        self._ending.set()
        self.news.set()

    async def run(self) -> None:
        """Until the end of the run, or until nobody reads."""
        ended = False
        try:
            while not await self._turn():
                pass
            await self._close()
            ended = True
        finally:
            self.died = not ended

    async def _turn(self) -> bool:
        """Hand one batch over, or wait for one. Whether this was the last turn."""
        self.news.clear()
        last = self._ending.is_set()
        if last and self._late():
            return True
        try:
            if not last and (letter := self._letter()) is not None:
                self._fair = False
                return await self._again(letter)
            rows = self._young(self._outbox.pending(self.name, self._consumer.sink.batch))
        except StoreFailed as error:
            return await self._failed(SinkError(str(error)), 0, last)
        tried, self._fair = not self._fair, True
        if not rows:
            return False if tried and not last else await self._idle(last)  # there may be more letters
        failure = await self._attempt([json.loads(row.body) for row in rows])
        if failure is None:
            self._taken(rows)
        elif isinstance(failure, SinkRejected) and failure.taken < len(rows):
            self._taken(rows[: failure.taken])
            self._bury(rows[failure.taken], str(failure))
        elif isinstance(failure, SinkClosed):
            self._closed(failure)
            return True
        else:
            return await self._failed(failure, len(rows), last)
        return False

    def _letter(self) -> Letter | None:
        """A dead letter to try once more: after a batch, and while the sink is away only if nothing else waits."""
        if not self._fair or (self._away and self._outbox.behind(self.name) > 0):
            return None
        return self._outbox.letter(self.name)

    async def _again(self, letter: Letter) -> bool:
        """Hand one dead letter over, once more and no oftener. Whether nobody reads."""
        event = json.loads(letter.body)
        failure = await self._attempt([event], late=True)
        if isinstance(failure, SinkClosed):
            self._closed(failure)
            return True
        self._outbox.settle(letter, None if failure is None else str(failure))
        if failure is None:
            log.warning("sink '%s' took dead letter %d, event '%s'", self.name, letter.sequence, event["id"])
            self._metrics.sink_deliveries.labels(self.name, "delivered").inc()
            self._taken([])
            return False
        log.warning("dead letter %d of sink '%s' stays dead: %s", letter.sequence, self.name, failure)
        refused = isinstance(failure, SinkRejected)
        self._metrics.sink_deliveries.labels(self.name, "dead" if refused else "failed").inc()
        if not refused:
            await self._close()
        return False

    def _young(self, rows: list[Row]) -> list[Row]:
        """Rows that may still be delivered: those that waited too long become dead letters."""
        oldest = self._outbox.now() - self._settings.max_age
        for index, row in enumerate(rows):
            if row.stored >= oldest:
                return rows[index:]
            self._bury(row, f"not delivered within {self._settings.max_age:g} s")
        return []

    def _late(self) -> bool:
        """The grace after the end of the run is over."""
        return self._consumer.patience is not None and asyncio.get_running_loop().time() > self._due

    async def _idle(self, last: bool) -> bool:
        if self._outbox.behind(self.name) > 0:  # taken, not committed yet: news will follow
            await self._wait(self.news, 1.0)
            return False
        if not last:
            await self._wait(self.news, self._settings.look)
        return last

    async def _attempt(self, events: Sequence[Event], *, late: bool = False) -> SinkError | None:
        """Open if need be and deliver, within the sink's patience. What went wrong, None if nothing did."""
        patience = self._consumer.patience
        if patience is not None and self._ending.is_set():
            patience = min(patience, max(0.1, self._due - asyncio.get_running_loop().time()))
        turn = asyncio.create_task(self._hand_over(events, late))
        await asyncio.wait({turn}, timeout=patience)
        if not turn.done():
            turn.cancel()
            await asyncio.wait({turn}, timeout=self._settings.ending)
            return SinkError(f"no answer within {patience:g} s")
        if turn.cancelled():
            return SinkError("its client broke the delivery off")
        error = turn.exception()
        if error is None or isinstance(error, SinkError):
            return error
        log.error("sink '%s' failed in a way it does not know", self.name, exc_info=error)
        return SinkError(f"{type(error).__name__}: {error}")

    async def _hand_over(self, events: Sequence[Event], late: bool) -> None:
        sink = self._consumer.sink
        if not self._opened:
            await sink.open()
            self._opened = True
        if late and isinstance(sink, LateSink):
            await sink.deliver_late(events[0])
        else:
            await sink.deliver(events)

    def _taken(self, rows: Sequence[Row]) -> None:
        if self._away:
            self._away = False
            log.warning("sink '%s' takes events again; %d wait", self.name, self._outbox.behind(self.name))
        self._retry.succeeded()
        self._failures = 0
        if rows:
            self._burying = False
            self._outbox.acknowledge(self.name, rows[-1].sequence)
            self._metrics.sink_deliveries.labels(self.name, "delivered").inc(len(rows))

    def _bury(self, row: Row, reason: str) -> None:
        # One line for a run of them: a sink that refuses everything would fill the log.
        level = logging.DEBUG if self._burying else logging.ERROR
        log.log(level, "event '%s' is a dead letter of sink '%s': %s", json.loads(row.body)["id"], self.name, reason)
        self._burying = True
        self._outbox.bury(self.name, row, reason)
        self._metrics.sink_deliveries.labels(self.name, "dead").inc()

    def _closed(self, failure: SinkClosed) -> None:
        log.warning("%s", failure)
        self._metrics.sink_deliveries.labels(self.name, "closed").inc()
        self._outbox.leave(self.name)
        self._on_closed(self.name)

    async def _failed(self, failure: SinkError, count: int, last: bool) -> bool:
        """Say it once, then wait. Whether there is no use in waiting."""
        delay = self._retry.failed(failure.retry_after)
        self._metrics.sink_deliveries.labels(self.name, "failed").inc(count)
        if not self._away:
            self._away = True
            log.warning("sink '%s' does not take events, they wait: %s", self.name, failure)
        await self._close()
        self._failures += 1
        if not last:
            await self._wait(self._ending, delay)
            return False
        if self._failures == 1 and asyncio.get_running_loop().time() + delay < self._due:
            await asyncio.sleep(delay)  # it was there until now
            return False
        if self._outbox.durable and not self._consumer.live:
            log.warning("%d events for sink '%s' wait for the next run", self._outbox.behind(self.name), self.name)
        return True

    async def _close(self) -> None:
        """Close the sink, whatever state it is in, without waiting for long."""
        self._opened = False
        await self._limited(self._consumer.sink.close())

    async def _limited(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=self._settings.ending)
        if not task.done():
            task.cancel()
        elif (error := task.exception()) is not None:
            log.error("sink '%s' could not be closed", self.name, exc_info=error)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()
