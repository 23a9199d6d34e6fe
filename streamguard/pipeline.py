"""Guard: the chain, assembled.

    source -> decoder thread -> mailbox -> inference thread (detect, track, classify, judge) -> events

Read :func:`~streamguard.chain.assemble` and :meth:`Guard.add` to see every part and the order they stand in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Self

import cv2

from streamguard.analysis import StreamAnalysis, TrackOutcome
from streamguard.chain import assemble, engine_refs
from streamguard.config import Config
from streamguard.decision.calibration import OperatingPoint
from streamguard.delivery.broadcast import Broadcast
from streamguard.delivery.events import Bar, Event, EventFactory, StreamKind, TrackRef
from streamguard.delivery.evidence import EvidenceKeeper
from streamguard.delivery.publish import Publisher, publish_url
from streamguard.errors import StreamUnknown, UsageError
from streamguard.frames import Frame, Look, State, StreamSnapshot
from streamguard.ingest.connection import Source
from streamguard.ingest.live import FeedSettings
from streamguard.ingest.mailbox import Crossing, Mailbox, Outage, SessionEnded, SessionStarted
from streamguard.listener import StageListener, StreamEvent
from streamguard.metrics import Metrics
from streamguard.readers import FileReader, Intake, LiveReader, Reader, Reading, SessionNumbers
from streamguard.stage import InferenceStage
from streamguard.vision.overload import Overload, ladder
from streamguard.vision.sampler import FrameSampler, unhurried

log = logging.getLogger(__name__)

REMOVED = "removed"
_HEED = 0.5  # seconds; a signal that the kernel gave to another thread is heeded when the main thread turns next
_GOODBYE = 3.0  # seconds that a publisher has to say goodbye
STUCK = 30.0  # seconds of one turn of the inference thread; a frame takes a fraction of one
FILE_BOUND = 8
"""Frames of a file that may wait: enough to keep the models busy while the decoder decodes."""

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """How a stream ended. ``error`` is None for a file that was read to its end."""

    stream: str
    frames: int
    tracks: tuple[TrackOutcome, ...]
    still: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class WatchedStream:
    """A stream that is being watched, as it stood when it was asked for. ``point``: what its faces are held against."""

    source: Source
    snapshot: StreamSnapshot
    reading: Reading
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class RunReport:
    """What :meth:`Guard.run` returns: the streams that failed, with why."""

    failures: dict[str, str] = field(default_factory=dict)


class Guard(StageListener):
    """Watches streams.

    >>> guard = Guard(Config(), on_event=print)              # doctest: +SKIP
    >>> guard.add(open_source("demo:?duration=20"))          # doctest: +SKIP
    >>> guard.run()                                          # doctest: +SKIP

    ``on_event`` and ``on_end`` are called in the inference thread: they must be quick. ``feed`` sets how live sources
    are watched and tried again.
    """

    def __init__(
        self,
        config: Config,
        *,
        metrics: Metrics | None = None,
        on_event: OnEvent | None = None,
        on_end: Callable[[StreamReport], None] | None = None,
        feed: FeedSettings | None = None,
    ) -> None:
        # Streams are the parallelism: OpenCV's own threads would only fight the decoders for the cores.
        cv2.setNumThreads(1)
        self.config = config
        self.metrics = metrics or Metrics()
        inbox: SimpleQueue[object] = SimpleQueue()
        self._chain = chain = assemble(config, inbox)
        sampling = chain.settings.sampler
        self._overload = Overload(ladder(sampling.mode))
        self._stage = InferenceStage(
            chain.models, inbox, self, self.metrics, settings=sampling, overload=self._overload
        )
        self._events = EventFactory(chain.context)
        self._on_event = on_event or (lambda event: None)
        self._on_end = on_end or (lambda report: None)
        self._feed = feed or FeedSettings()
        self._evidence: EvidenceKeeper | None = None
        if config.evidence.folder is not None:
            self._evidence = EvidenceKeeper(config.evidence, partial(chain.facts, config), self.metrics)
        self._streams: dict[str, _Stream] = {}
        self._sessions = SessionNumbers()
        self._publishers: list[Publisher] = []
        self._failures: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._over = False
        self._running = False
        self.engines()

    # The owner's side.

    @property
    def ready(self) -> bool:
        """Engines are compiled and the inference thread runs."""
        return self._running

    @property
    def point(self) -> OperatingPoint:
        """The threshold that tracks are held against."""
        return self._chain.settings.point

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """All operating points of the classifier."""
        return self._chain.points

    @property
    def alive(self) -> bool:
        """The inference thread turns, or has not been started."""
        return not self._running or (self._stage.running and self._stage.stuck_for() < STUCK)

    def start(self) -> None:
        """Start the inference thread; streams added before or after."""
        if self._evidence is not None:
            self._evidence.start()
        self._stage.start()
        self._running = True

    def add(self, source: Source, point: OperatingPoint | None = None) -> None:
        """Watch a source from now on, held against ``point`` rather than the configuration's.

        Raises:
            UsageError: a stream of that name is being watched.
        """
        with self._changed:
            if source.name in self._streams:
                raise UsageError(f"stream '{source.name}' is being watched already. Give the second one another name.")
            point = point or self.point
            name, live, settings = source.name, source.live, self._chain.judged_by(point)
            pace = (lambda: self._overload.pace) if live else unhurried
            analysis = StreamAnalysis(name, settings, self.metrics, keep=not live, pace=pace)
            mailbox = Mailbox(settings.sampler.waiting, "newest") if live else Mailbox(FILE_BOUND, "wait")
            crossing = Crossing(mailbox, partial(self._stage.wake, name))
            broadcast = Broadcast(name, partial(self.snapshot, name), self.metrics)
            intake = Intake(name, crossing, self.metrics, FrameSampler(settings.sampler, pace), broadcast)
            if self._evidence is not None and source.recorded:
                source.keep(self.config.evidence.span.keep)
            if self.config.picture.sound:
                source.listen()
            first = self._sessions.first(name)
            reader = LiveReader(source, intake, self._feed, first) if live else FileReader(source, intake, first)
            self._streams[source.name] = _Stream(source, reader, broadcast, analysis.snapshot(), point)
        self._stage.add(analysis, crossing)
        reader.start()

    def remove(self, name: str) -> None:
        """Stop watching a stream: its tracks end, its segments close. Returns when it is gone, and its name free.

        Unknown names are ignored. Not to be called from ``on_event`` or ``on_end``.
        """
        with self._changed:
            stream = self._streams.get(name)
        if stream is not None:
            stream.reader.stop()
            self._stage.remove(name, REMOVED)
            with self._changed:
                self._changed.wait_for(lambda: self._streams.get(name) is not stream, 10.0)

    def retune(self, name: str, point: OperatingPoint) -> None:
        """From now on a stream is held against another operating point: open segments close, what is known stays.

        Unknown names are ignored. It holds until the stream is removed.
        """
        with self._changed:
            if (stream := self._streams.get(name)) is not None:
                stream.point = point
                self._stage.ask(name, lambda analysis: analysis.retune(point))

    def snapshot(self, name: str) -> StreamSnapshot | None:
        """A stream as it stands, or None."""
        stream = self._streams.get(name)
        return None if stream is None else stream.snapshot

    def broadcast(self, stream: str) -> Broadcast:
        """The picture of a stream, for those who watch it.

        Raises:
            StreamUnknown: no stream of that name is being watched.
        """
        found = self._streams.get(stream)
        if found is None:
            raise StreamUnknown(
                f"no stream '{stream}' is being watched. The API's list of streams names those that are."
            )
        return found.broadcast

    def publish(self, stream: str, url: str) -> None:
        """Publish the picture of a stream to an RTSP server, and again after every failure, until the stream is gone.

        ``{stream}`` in ``url`` stands for the stream's name.

        Raises:
            StreamUnknown: no stream of that name is being watched. UsageError: no URL that can be published to.
        """
        publisher = Publisher(self.broadcast(stream), publish_url(url, stream), self.metrics)
        with self._changed:
            self._publishers = [other for other in self._publishers if other.running] + [publisher]
        publisher.start()

    def streams(self) -> tuple[WatchedStream, ...]:
        """All streams as they stand, in the order in which they were added."""
        with self._changed:
            return tuple(stream.watched() for stream in self._streams.values())

    def run(self, duration: float | None = None, *, stay: bool = False) -> RunReport:
        """Watch until every stream has ended, ``duration`` seconds are over, or :meth:`stop`.

        ``stay``: streams may come later, so their absence ends nothing. If the inference thread fails, every stream
        that was under way counts as failed; their pictures go on, not analysed, as long as somebody watches them.
        """
        with self, self._changed:
            ends = None if duration is None else time.monotonic() + duration
            while not (self._stopping or (self._over and not self._seen()) or not (stay or self._streams)):
                left = _HEED if ends is None else min(_HEED, ends - time.monotonic())
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._over:
                self._failures.update(dict.fromkeys(self._streams, "the inference thread failed"))
        return RunReport(dict(self._failures))

    def _seen(self) -> bool:
        """Somebody watches a stream, or is to be published to."""
        watched = any(stream.broadcast.watched for stream in self._streams.values())
        return watched or any(publisher.running for publisher in self._publishers)

    def __enter__(self) -> Self:
        if not self._running:
            self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End every stream after its frame at hand, close what is open, free the models, write the evidence."""
        with self._changed:
            for stream in self._streams.values():
                stream.reader.stop()
            self._changed.wait_for(lambda: self._over or not self._streams, 10.0)
            for stream in self._streams.values():  # those that a failed inference thread has left
                stream.broadcast.close()
        for publisher in self._publishers:
            publisher.join(_GOODBYE)
        self._running = False
        self._stage.stop()
        if self._evidence is not None:
            self._evidence.stop()

    def stop(self) -> None:
        """Make :meth:`run` return, from any thread or a signal handler's thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    # The stage's side: in the inference thread.

    def event(self, event: StreamEvent) -> None:
        name, what = event.stream, event.what
        if (keeper := self._keeper(name)) is not None:
            _mark_evidence(keeper, name, what)
        if isinstance(what, SessionStarted):
            self._on_event(self._events.stream("up", name, what.session, at=time.time()))
            return
        if isinstance(what, SessionEnded):
            self._on_event(self._events.stream("down", name, what.session, at=time.time(), reason=what.reason))
            return
        if isinstance(what, Outage):
            kind: StreamKind = "up" if what.reason is None else "degraded"
            session = self._streams[name].snapshot.session
            self._on_event(self._events.stream(kind, name, session, at=time.time(), reason=what.reason))
            return
        change, timeline = what.change, what.timeline
        bar = Bar(change.point.name, change.point.threshold)
        if change.kind == "state":
            of = TrackRef(name, what.session, what.track)
            self._on_event(
                self._events.track_state(
                    of,
                    change.state,
                    change.pts,
                    timeline,
                    reason=change.reason,
                    logit=change.score_logit,
                    sighting=what.sighting,
                    bar=bar,
                )
            )
        elif change.segment is not None:
            segment, evidence = change.segment, None
            if keeper is not None:
                own = {"operating_point": asdict(change.point)}
                evidence = keeper.segment(change.kind, self._events.name_of(segment), segment, timeline, own)
            told = self._events.segment(change.kind, segment, change.pts, timeline, what.sighting, evidence, bar)
            self._on_event(told)

    def looked(self, frame: Frame, looks: Sequence[Look]) -> None:
        if (keeper := self._keeper(frame.stream)) is not None:
            keeper.looked(frame, looks)

    def analysed(self, frame: Frame) -> None:
        if (keeper := self._keeper(frame.stream)) is not None:
            keeper.analysed(frame)

    def _keeper(self, stream: str) -> EvidenceKeeper | None:
        """Who keeps evidence of a stream, if anybody does."""
        return self._evidence if self._streams[stream].source.recorded else None

    def standing(self, snapshot: StreamSnapshot) -> None:
        name, stream = snapshot.stream, self._streams[snapshot.stream]
        before, stream.snapshot = stream.snapshot, snapshot
        if before.state is not snapshot.state or snapshot.session != before.session:
            for state in State:
                self.metrics.stream_state.labels(name, state.value).set(snapshot.state is state)

    def ended(self, analysis: StreamAnalysis, ended: SessionEnded) -> None:
        name = analysis.stream
        reader = self._streams[name].reader
        self._streams[name].broadcast.close()
        self.metrics.forget_stream(name)
        self._on_end(StreamReport(name, reader.frames, tuple(analysis.outcomes), reader.still, reader.error))
        with self._changed:
            del self._streams[name]
            self._sessions.over(name, reader.session)
            if reader.error is not None and ended.reason != REMOVED:
                self._failures[name] = reader.error
            self._changed.notify_all()

    def engines(self) -> None:
        """Events and ``engine_info`` name what runs now."""
        self._events.engines = engine_refs(self._chain.engines)
        self.metrics.engine_info.clear()
        for engine, backend in self._chain.engines:
            self.metrics.engine_info.labels(engine.name, engine.sha256, backend.name, backend.variant).set(1)

    def over(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _mark_evidence(evidence: EvidenceKeeper, stream: str, what: object) -> None:
    if isinstance(what, SessionStarted):
        evidence.begin(stream, what.recording)
    elif isinstance(what, Outage):
        evidence.outage(stream, what.reason)
    elif isinstance(what, SessionEnded):
        evidence.end(stream, what.reason, final=what.final)


@dataclass(slots=True)
class _Stream:
    """A stream that is being watched: its source, decoder side and picture, how it stands, what it is held against."""

    source: Source
    reader: Reader
    broadcast: Broadcast
    snapshot: StreamSnapshot
    point: OperatingPoint

    def watched(self) -> WatchedStream:
        """The stream as others see it."""
        return WatchedStream(self.source, self.snapshot, self.reader.reading, self.point)
