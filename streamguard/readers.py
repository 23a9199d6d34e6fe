"""The decoder side of a stream: frames from a source into its crossing, with every loss counted.

:class:`FileReader` reads a source once, in a thread of its own, and waits where the mailbox is full.
:class:`LiveReader` keeps a live source open through :class:`~streamguard.ingest.live.LiveFeed` and never waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from streamguard.delivery.broadcast import Broadcast
from streamguard.errors import StreamGuardError
from streamguard.frames import Frame
from streamguard.ingest.connection import Audible, Connection, Source
from streamguard.ingest.live import FeedSettings, LiveFeed
from streamguard.ingest.mailbox import Crossing, Outage, SessionEnded, SessionStarted
from streamguard.ingest.reconnect import Reason
from streamguard.metrics import Metrics
from streamguard.vision.sampler import FrameSampler, Look

log = logging.getLogger(__name__)

FROZEN: Final = "frozen picture"
DAMAGED: Final = "damaged frames"
_DAMAGED_FOR: Final = 2.0  # seconds without a sound frame, after which no score is recent any more


@dataclass(frozen=True, slots=True)
class Reading:
    """How the decoder side of a stream stands.

    ``up``: frames come. ``last_frame_at``: Unix time in seconds of the last sound one; None before the first.
    ``reconnects``: connections tried again. ``size``: width and height of the picture; zeros before the first.
    """

    up: bool = False
    last_frame_at: float | None = None
    reconnects: int = 0
    size: tuple[int, int] = (0, 0)


class Reader(Protocol):
    """What the owner of a stream does with its decoder side."""

    @property
    def frames(self) -> int:
        """Frames decoded so far."""

    @property
    def reading(self) -> Reading:
        """How it stands, from any thread."""

    @property
    def still(self) -> bool:
        """The source is one picture."""

    @property
    def error(self) -> str | None:
        """Why the stream counts as failed, once it has ended."""

    @property
    def session(self) -> int:
        """The last session that gave frames, or is about to."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Ask the reader to end; its last mark comes soon."""


class SessionNumbers:
    """The last session of streams that are gone: one that comes back goes on counting, since sessions name segments.

    >>> numbers = SessionNumbers()
    >>> numbers.over("door", 3)
    >>> numbers.first("door"), numbers.first("gate")
    (4, 1)
    """

    def __init__(self, bound: int = 10_000) -> None:
        self._bound = bound
        self._last: OrderedDict[str, int] = OrderedDict()

    def first(self, stream: str) -> int:
        """The number of its next session."""
        return self._last.get(stream, 0) + 1

    def over(self, stream: str, last: int) -> None:
        """A stream is gone; ``last``: its last session, or one less than its first if there was none."""
        self._last.pop(stream, None)
        self._last[stream] = last
        if len(self._last) > self._bound:
            self._last.popitem(last=False)


class Intake:
    """One stream's frames on their way into the crossing: counted, sampled, dropped by name."""

    def __init__(
        self,
        stream: str,
        crossing: Crossing,
        metrics: Metrics,
        sampler: FrameSampler,
        broadcast: Broadcast,
    ) -> None:
        self.stream = stream
        self.crossing = crossing
        self.metrics = metrics
        self.frames = 0
        self.reconnects = 0
        self._up = False
        self._last_frame_at: float | None = None
        self._size = (0, 0)
        self._sampler = sampler
        self._broadcast = broadcast
        self._decoded = metrics.frames_decoded.labels(stream)
        self._received = metrics.stream_received.labels(stream)
        self._bytes = 0
        self._told_late = 0
        self._sound_at = 0.0
        self._outage: str | None = None

    @property
    def reading(self) -> Reading:
        """How it stands, from any thread."""
        return Reading(self._up, self._last_frame_at, self.reconnects, self._size)

    def opened(self, session: int, connection: Connection) -> None:
        """A session delivers."""
        self._up, self._size = True, (connection.info.width, connection.info.height)
        self._sound_at, self._outage, self._bytes = 0.0, None, 0
        self._told_late = 0
        self._sampler.restart()
        self.metrics.stream_up.labels(self.stream).set(1)
        self.metrics.stream_width.labels(self.stream).set(connection.info.width)
        if isinstance(connection, Audible):
            self._broadcast.opened(connection.sound)
            connection.hear(self._broadcast.heard)
        else:
            self._broadcast.opened()
        self.crossing.mark(SessionStarted(session, connection.info, connection.recording))

    def frame(self, frame: Frame, connection: Connection) -> None:
        """A frame was decoded. One that comes after the stream was stopped is nobody's."""
        if self.crossing.closed:
            return
        self._broadcast.frame(frame)  # first of all: what people see waits for nothing
        self.frames += 1
        self._decoded.inc()
        received = connection.received_bytes
        self._received.inc(8 * (received - self._bytes))
        self._bytes = received
        if frame.damaged:
            self.metrics.frames_corrupt.labels(self.stream).inc()
            if frame.pts - self._sound_at > _DAMAGED_FOR and self._outage is None:
                self.outage(DAMAGED)
            return
        self._sound_at, self._last_frame_at = frame.pts, time.time()
        if self._outage == DAMAGED:
            self.outage(None)
        look = self._sampler.look(frame.pts)
        if look is Look.BETWEEN and self._outage is None:
            self.crossing.put(frame, due=False)
        if look is not Look.SEARCH:
            return
        self.metrics.stream_last_frame.labels(self.stream).set_to_current_time()
        if connection.clock_offset is not None:
            self.metrics.stream_clock_offset.labels(self.stream).set(connection.clock_offset)
        if self._outage is not None:
            self._drop("frozen")
            return
        stride = self._sampler.settings.stride
        late = (connection.skipped_frames - self._told_late) // stride
        self._told_late += late * stride
        if late:
            self._drop("late", late)
        if self.crossing.put(frame, overtook=late) is not None:
            self._drop("stopped" if self.crossing.closed else "overtaken")

    def outage(self, reason: str | None) -> None:
        """Frames come, but can't be judged, for ``reason``; None: they can again."""
        self._outage = reason
        self.crossing.mark(Outage(reason))

    def ended(self, session: int, reason: str, *, final: bool) -> None:
        """No frame of the session follows."""
        self._up = False
        if not self.crossing.closed:  # else the stream may be gone, and its gauges with it
            self.metrics.stream_up.labels(self.stream).set(0)
        self.crossing.mark(SessionEnded(session, reason, final))

    def _drop(self, reason: str, frames: int = 1) -> None:
        self.metrics.frames_dropped.labels(self.stream, reason).inc(frames)


class FileReader:
    """Reads a source that ends, once."""

    def __init__(self, source: Source, intake: Intake, session: int = 1) -> None:
        self.still = False
        self.error: str | None = None
        self.session = session
        self._source = source
        self._intake = intake
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"decoder-{source.name}", daemon=True)

    @property
    def frames(self) -> int:
        return self._intake.frames

    @property
    def reading(self) -> Reading:
        return self._intake.reading

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._intake.crossing.close()

    def _run(self) -> None:
        self.error = reason = "the reader failed"
        try:
            self._read()
            self.error, reason = None, "end of stream"
        except StreamGuardError as error:
            self.error = reason = str(error)
            log.error("%s", error)
        finally:  # whatever happens, nobody waits for this stream for ever
            self._intake.ended(self.session, "stopped" if self._stopped.is_set() else reason, final=True)

    def _read(self) -> None:
        with self._source.open(self.session) as connection:
            self.still = connection.info.still
            self._intake.opened(self.session, connection)
            for frame in connection:
                self._intake.frame(frame, connection)
                if self._stopped.is_set():
                    return


class LiveReader:
    """Keeps a live source open until it is stopped; a :class:`~streamguard.ingest.live.FeedListener`."""

    still = False

    def __init__(self, source: Source, intake: Intake, settings: FeedSettings, first: int = 1) -> None:
        """``first``: the number of the first session."""
        self.session = first - 1
        self._first = first
        self._source = source
        self._intake = intake
        self._feed = LiveFeed(source, settings=settings)
        self._connection: Connection | None = None
        self._down = False  # the outage under way has been told
        self._words = "it has not answered yet"
        self._thread = threading.Thread(target=self._run, name=f"feed-{source.name}", daemon=True)

    @property
    def frames(self) -> int:
        return self._intake.frames

    @property
    def reading(self) -> Reading:
        return self._intake.reading

    @property
    def error(self) -> str | None:
        """A live source that is down is tried again; one that never gave a frame has failed."""
        return None if self.frames else f"'{self._source.uri}' gave no frame: {self._words}."

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._feed.stop()
        self._intake.crossing.close()

    def _run(self) -> None:
        try:
            self._feed.run(self, self._first)
        finally:  # whatever happens, nobody waits for this stream for ever
            self._intake.ended(self.session, "stopped", final=True)

    # What the feed tells.

    def opened(self, session: int, connection: Connection) -> None:
        self.session, self._connection, self._down = session, connection, False
        self._intake.opened(session, connection)

    def frame(self, frame: Frame) -> None:
        assert self._connection is not None
        self._intake.frame(frame, self._connection)

    def degraded(self, session: int, frozen: bool) -> None:
        log.warning("stream '%s': the picture %s", self._source.name, "is frozen" if frozen else "moves again")
        self._intake.outage(FROZEN if frozen else None)

    def closed(self, session: int, reason: Reason, words: str) -> None:
        self._connection, self._down = None, True  # an outage may last for months, and a decoder takes megabytes
        self._intake.ended(session, f"no frames: {words}", final=False)

    def retrying(self, reason: Reason, words: str, delay: float) -> None:
        self._intake.metrics.stream_reconnects.labels(self._source.name, reason).inc()
        self._intake.reconnects += 1
        # Once in an outage, which may last for months.
        level = logging.INFO if self._down and words == self._words else logging.WARNING
        log.log(level, "stream '%s': %s; next attempt in %.1f s", self._source.name, words, delay)
        self._words = words
        if not self._down:
            self._down = True
            self._intake.ended(self.session, f"no frames: {words}", final=False)
