"""The outbox keeps every event until every sink has it.

    inference thread --take--> backlog --flush--> disk --pending--> sinks' thread
                               (memory)  (writer)        acknowledge, bury

An event is on the disk before a sink sees it. Two cases go another way: without a file there is the memory alone, and
while the disk takes nothing, events go out from memory, counted, and are written once it does again.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from streamguard.delivery.backlog import Backlog, Row, rank_of
from streamguard.delivery.events import Event
from streamguard.delivery.markers import Markers
from streamguard.delivery.restart import closed_by_restart, closes, segment_of
from streamguard.delivery.store import Dead, Letter, Store, StoreFailed, Work
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

BOUND: Final = 10_000
"""Events in memory: those not written yet, and all where there is no file."""
_LETTERS: Final = 100  # dead letters that were tried once more, of which the disk does not know yet
_AGAIN: Final = 1.0  # seconds until a disk that took nothing is tried again


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """``path``: the file; None leaves it to :func:`streamguard.config.outbox_path`. ``max_bytes``: its size at most.
    ``max_age``: seconds, while StreamGuard runs, after which an event that a sink did not take is a dead letter."""

    path: str | None = None
    max_bytes: int = 268_435_456
    max_age: float = 604_800.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1_048_576:
            raise ValueError(f"max_bytes is {self.max_bytes}; expected 1048576 or more")
        if not self.max_age > 0:
            raise ValueError(f"max_age is {self.max_age}; expected more than 0 seconds")


class _Reader:
    """What the outbox knows of a sink: up to where it has its events, how many it has not, what it was handed."""

    def __init__(self, at: int, pending: int, keep: bool) -> None:
        self.at = at
        self.pending = pending
        self.keep = keep
        self.handed: list[int] = []


class Outbox:
    """Events in order, and how far each sink has come.

    :meth:`take` may be called from any thread. :meth:`flush` belongs to one thread, the writer's; :meth:`pending`,
    :meth:`acknowledge` and :meth:`bury` to one, the sinks'. ``store`` None keeps events in memory. ``clock``: seconds
    of a monotonic clock; the outbox reads no other, so that a wrong time of day can't make an event old.
    """

    def __init__(
        self, store: Store | None, metrics: Metrics, clock: Callable[[], float] = time.monotonic, bound: int = BOUND
    ) -> None:
        self.lost = 0
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._backlog = Backlog(bound)
        self._readers: dict[str, _Reader] = {}
        self._dead: list[Dead] = []
        self._letters: dict[int, str | None] = {}
        self._markers = Markers(() if store is None else store.segments(), bound)
        self._last, was = (0, 0.0) if store is None else store.standing()
        self._offset = was - clock()
        self._seen = self._last  # by the writer
        self._visible = self._last  # to sinks, as far as it is in the backlog
        self._writing = 0  # up to there a commit is under way
        self._generation = 0  # of what is in the store
        self._unsaved = False
        self._failing = False
        self._again = 0.0
        self._said: set[str] = set()
        self._news = threading.Condition()

    @property
    def durable(self) -> bool:
        """Events are kept on disk."""
        return self._store is not None

    def now(self) -> float:
        """Seconds that this outbox has been in use, all runs together."""
        return self._offset + self._clock()

    # Before the threads run.

    def register(self, kept: Collection[str], live: Collection[str] = ()) -> None:
        """Name the sinks. One of ``kept`` goes on where it stopped in an earlier run, a new one begins with the
        next event, as all of ``live`` do; an earlier one that is not among them is forgotten, which is logged."""
        store = self._store
        known = {} if store is None else store.cursors()
        for name in kept:
            at = known.pop(name, self._last)
            self._readers[name] = _Reader(at, 0 if store is None else store.count(at), keep=True)
        for name in live:
            self._readers[name] = _Reader(self._last, 0, keep=False)
        if store is not None:
            for name, at in known.items():
                _dismiss(store, name, at)
        self._unsaved = True

    def recover(self) -> int:
        """Close the segments that a crash left open. How many there were."""
        left = {} if self._store is None else self._store.segments()
        for body in left.values():
            self.take(closed_by_restart(json.loads(body)))
        self.flush()
        return len(left)

    # From any thread.

    def take(self, event: Event) -> None:
        """Accept an event without waiting."""
        try:
            body = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError as error:
            log.error("event '%s' is no JSON and is lost: %s", event.get("id"), error)
            self.lost += 1
            return
        segment = segment_of(event)
        with self._news:
            self._last += 1
            row = Row(self._last, self.now(), rank_of(event["type"]), body)
            for reader in self._readers.values():
                reader.pending += 1
            if segment is not None and self.durable and not self._markers.note(segment, _marker(event, body)):
                self._unmarked()
            if (gone := self._backlog.add(row, kept=self._writing)) is not None:
                self._lose([gone.sequence], "memory is full of events that wait")
            self._news.notify_all()

    def _unmarked(self) -> None:
        self._metrics.outbox_unmarked.inc()
        why = "the disk takes nothing, and more segments are open than memory has room for"
        if why not in self._said:
            self._said.add(why)
            log.error("a crash would leave segments open: %s", why)

    def append(self, event: Event) -> int:
        """Take an event and commit it; its number. For the writer's thread, or before that runs."""
        self.take(event)
        self.flush()
        return self._last

    def behind(self, sink: str) -> int:
        """How many events the sink has not."""
        with self._news:
            return self._readers[sink].pending

    # The writer's thread.

    def wait(self, timeout: float) -> None:
        """Return when there are events to write, or after ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(lambda: self._last > self._seen, timeout)

    def flush(self) -> bool:
        """Commit all that waits, together. Whether sinks may see more than before."""
        with self._news:
            news, self._seen = self._last > self._seen, self._last
            if self._store is None or (self._failing and self._clock() < self._again):
                self._show(self._last)
                return news
            work = self._work()
        if work is not None:
            try:
                gone = self._store.commit(work)
            except StoreFailed as error:
                self._failed(work, error)
            else:
                self._committed(work, gone)
        return news

    def _work(self) -> Work | None:
        rows = self._backlog.after(0)
        segments = self._markers.hand_over()
        if not (rows or self._dead or segments or self._letters or self._unsaved):
            return None
        self._writing = self._last
        cursors = {name: reader.at for name, reader in self._readers.items() if reader.keep}
        work = Work(rows, cursors, self._dead, segments, dict(self._letters), self._done(), self._last, self.now())
        self._dead, self._unsaved = [], False
        return work

    def _committed(self, work: Work, gone: Sequence[int]) -> None:
        self._metrics.outbox_commits.labels("done").inc()
        with self._news:
            self._backlog.forget(self._writing)
            self._markers.written()
            for place in work.letters:
                del self._letters[place]
            self._visible, self._writing = self._writing, 0
            self._generation += 1
            self._lose(gone, "the outbox is full; updates go first")
            if self._failing:
                self._failing = False
                log.warning("the outbox is written again; %d events were caught up", len(work.rows))
            self._tell()

    def _failed(self, work: Work, error: StoreFailed) -> None:
        self._metrics.outbox_commits.labels("failed").inc()
        with self._news:
            if not self._failing:
                log.error("%s Events go out from memory meanwhile; a crash would lose them.", error)
            self._failing, self._again = True, self._clock() + _AGAIN
            self._dead = [*work.dead, *self._dead]
            self._markers.failed()
            self._unsaved = True
            through, self._writing = self._writing, 0
            self._show(through)

    def _show(self, through: int) -> None:
        """Let sinks have what is in memory alone."""
        self._visible = max(self._visible, through)
        self._backlog.forget(self._done())
        self._tell()

    def _done(self) -> int:
        """Every sink has the events up to this number."""
        return min((reader.at for reader in self._readers.values()), default=self._last)

    def _lose(self, sequences: Sequence[int], why: str) -> None:
        """Events that sinks will not have any more: count them, for each sink."""
        for name, reader in self._readers.items():
            missed = [sequence for sequence in sequences if sequence > reader.at]
            reader.pending -= len(missed)
            reader.handed = [sequence for sequence in reader.handed if sequence not in missed]
            self.lost += len(missed)
            self._metrics.sink_deliveries.labels(name, "lost").inc(len(missed))
            if missed and why not in self._said:
                self._said.add(why)
                log.error("events for '%s' are lost: %s", name, why)

    def _tell(self) -> None:
        for name, reader in self._readers.items():
            self._metrics.outbox_pending.labels(name).set(reader.pending)
        alone = self._store is not None and self._failing
        self._metrics.outbox_uncommitted.set(len(self._backlog) if alone else 0)

    # The sinks' thread.

    def pending(self, sink: str, limit: int) -> list[Row]:
        """What the sink has not, in order, ``limit`` rows at most.

        Raises:
            StoreFailed: the disk does not give them.
        """
        with self._news:
            reader, generation = self._readers[sink], self._generation
        rows = [] if self._store is None else self._store.read(reader.at, limit)
        with self._news:
            # If a commit came between, what was in memory may be in the store now: the next call finds it there.
            if len(rows) < limit and generation == self._generation:
                after = rows[-1].sequence if rows else reader.at
                rows += self._backlog.after(after, limit - len(rows), self._visible)
            reader.handed = [row.sequence for row in rows]
        return rows

    def acknowledge(self, sink: str, upto: int) -> None:
        """The sink has what it was handed, up to that number. Written with the next commit, within a second."""
        with self._news:
            reader = self._readers[sink]
            reader.pending -= sum(sequence <= upto for sequence in reader.handed)
            reader.handed = [sequence for sequence in reader.handed if sequence > upto]
            reader.at = upto
            self._unsaved = True
            self._metrics.outbox_pending.labels(sink).set(reader.pending)
            if self._store is None:
                self._backlog.forget(self._done())

    def bury(self, sink: str, row: Row, reason: str) -> None:
        """The sink will never have this row, the first it has not: a dead letter."""
        with self._news:
            if self.durable and self._readers[sink].keep and len(self._dead) < self._backlog.bound:
                self._dead.append(Dead(sink, row, reason))
        self.acknowledge(sink, row.sequence)

    def letter(self, sink: str) -> Letter | None:
        """A dead letter of the sink that somebody wants to be tried once more; :meth:`settle` says what became of it.

        Raises:
            StoreFailed: the disk does not give it.
        """
        with self._news:
            tried = max(self._letters, default=0)
            if self._store is None or self._failing or len(self._letters) >= _LETTERS or not self._readers[sink].keep:
                return None
        return self._store.letter(sink, tried)

    def settle(self, letter: Letter, reason: str | None) -> None:
        """The letter was taken, or stays dead for that reason. Written with the next commit, within a second."""
        with self._news:
            self._letters[letter.place] = reason

    def leave(self, sink: str) -> None:
        """The sink takes nothing more in this run; one that is kept finds its events in the next."""
        with self._news:
            if not (self.durable and self._readers[sink].keep):
                del self._readers[sink]

    # After the threads.

    def close(self) -> None:
        """Write what is left, and close the file. What is in memory alone then, is lost."""
        self._again = 0.0
        self.flush()
        with self._news:
            self._lose([row.sequence for row in self._backlog.after(0)], "they had not gone out when the run ended")
        if self._store is not None:
            self._store.close()


def _marker(event: Event, body: str) -> str | None:
    """What a crash would close the event's segment from; None if it has ended."""
    return None if closes(event) else body


def _dismiss(store: Store, sink: str, at: int) -> None:
    if waiting := store.count(at):
        log.warning("sink '%s' is not configured any more; the %d events that waited for it go", sink, waiting)
    store.forget_cursor(sink)
