"""Guard: the chain, assembled.

    source -> decoder thread -> mailbox -> inference thread (detect, track, classify, judge) -> events

Read :func:`assemble` and :meth:`Guard.add` to see every part and the order they stand in.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue

import cv2

from streamguard.analysis import AnalysisSettings, StreamAnalysis, StreamSnapshot, TrackOutcome
from streamguard.config import Config
from streamguard.decision.calibration import OperatingPoint, operating_point, temperature
from streamguard.delivery.events import EngineRef, Event, EventContext, EventFactory, TrackRef, run_name
from streamguard.errors import EngineForeign, InputError, StreamGuardError, UsageError
from streamguard.frames import Frame
from streamguard.inference.backend import Backend, create_backend
from streamguard.inference.engines import Engine, carrier, load_engine
from streamguard.ingest.connection import Source
from streamguard.ingest.mailbox import Crossing, Mailbox, SessionEnded, SessionStarted
from streamguard.metrics import Metrics
from streamguard.stage import InferenceStage, Models, StageListener, StreamEvent
from streamguard.vision.classifier import FaceInput
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.sampler import Sampler

log = logging.getLogger(__name__)

FILE_BOUND = 4
"""Due frames of a file that may wait: enough to keep the models busy while the decoder decodes."""

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
class RunReport:
    """What :meth:`Guard.run` returns: the streams that failed, with why."""

    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chain:
    """What all streams share."""

    models: Models
    engines: tuple[tuple[Engine, Backend], ...]
    settings: AnalysisSettings
    context: EventContext


def assemble(config: Config, inbox: SimpleQueue[object]) -> Chain:
    """Engines loaded, checked and compiled; the settings of every stage in one place.

    Raises:
        EngineError: an engine, backend or variant that can't be used. ConfigError: an unknown operating point.
    """
    slots = usable_cores()
    detector = load_engine(config.detector.engine)
    classifier = load_engine(config.classifier.engine)
    if detector.task != "detect":
        raise EngineForeign(f"engine '{detector.name}' (task '{detector.task}') is no detector. Name one that is.")
    face = FaceInput.of(classifier)
    detect = create_backend(config.detector.backend, detector, config.detector.variant, inbox, slots=slots)
    classify = create_backend(config.classifier.backend, classifier, config.classifier.variant, inbox, slots=slots)
    point = operating_point(classifier.manifest, config.operating_point, carrier(classify.variant))
    models = Models(
        detector=detect,
        decoder=FaceDecoder.of(detector.manifest),
        pad=int(detector.manifest["preprocessing"]["pad"]),
        size=(detector.input.width, detector.input.height),
        classifier=classify,
        calibration=temperature(classifier.manifest, carrier(classify.variant)),
    )
    settings = AnalysisSettings(face, point, config.tracking, config.quality, config.sampling, config.decision)
    engines = ((detector, detect), (classifier, classify))
    refs = tuple(EngineRef(engine.name, engine.sha256, backend.variant) for engine, backend in engines)
    context = EventContext(config.node, run_name(time.time()), point.name, point.threshold, refs)
    return Chain(models, engines, settings, context)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


class Guard(StageListener):
    """Watches streams.

    >>> guard = Guard(Config(), on_event=print)              # doctest: +SKIP
    >>> guard.add(open_source("demo:?duration=20"))          # doctest: +SKIP
    >>> guard.run()                                          # doctest: +SKIP

    ``on_event`` and ``on_end`` are called in the inference thread: they must be quick.
    """

    def __init__(
        self,
        config: Config,
        *,
        metrics: Metrics | None = None,
        on_event: OnEvent | None = None,
        on_end: Callable[[StreamReport], None] | None = None,
    ) -> None:
        # Streams are the parallelism: OpenCV's own threads would only fight the decoders for the cores.
        cv2.setNumThreads(1)
        self.config = config
        self.metrics = metrics or Metrics()
        inbox: SimpleQueue[object] = SimpleQueue()
        self._chain = chain = assemble(config, inbox)
        self._stage = InferenceStage(chain.models, inbox, self, self.metrics)
        self._events = EventFactory(chain.context)
        self._on_event = on_event or (lambda event: None)
        self._on_end = on_end or (lambda report: None)
        self._streams: dict[str, _Stream] = {}
        self._failures: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._running = False
        for engine, backend in chain.engines:
            self.metrics.engine_info.labels(engine.name, engine.sha256, backend.name, backend.variant).set(1)

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
    def alive(self) -> bool:
        """The inference thread turns."""
        return self._stage.stuck_for() < 30.0

    def start(self) -> None:
        """Start the inference thread; streams added before or after."""
        self._stage.start()
        self._running = True

    def add(self, source: Source) -> None:
        """Watch a source from now on.

        Raises:
            UsageError: a stream of that name is being watched.
        """
        with self._changed:
            if source.name in self._streams:
                raise UsageError(f"stream '{source.name}' is being watched already. Give the second one another name.")
            mailbox = Mailbox(1, "newest") if source.live else Mailbox(FILE_BOUND, "wait")
            stream = _Stream(source, Crossing(mailbox, self._stage.wake), self)
            self._streams[source.name] = stream
        analysis = StreamAnalysis(source.name, self._chain.settings, self.metrics, keep=not source.live)
        self._stage.add(analysis, stream.crossing)
        stream.start()

    def remove(self, name: str) -> None:
        """Stop watching a stream: its tracks end, its segments close. Unknown names are ignored."""
        with self._changed:
            stream = self._streams.get(name)
        if stream is not None:
            stream.stop()
            self._stage.remove(name, "removed")

    def snapshot(self, name: str) -> StreamSnapshot | None:
        """A stream as it stands, or None."""
        stream = self._streams.get(name)
        return None if stream is None else stream.snapshot

    def run(self, duration: float | None = None) -> RunReport:
        """Watch until every stream has ended, ``duration`` seconds are over, or :meth:`stop`."""
        with self, self._changed:
            self._changed.wait_for(lambda: self._stopping or not self._streams, duration)
        return RunReport(dict(self._failures))

    def __enter__(self) -> Guard:
        if not self._running:
            self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End every stream after its frame at hand, close what is open, free the models."""
        with self._changed:
            for stream in self._streams.values():
                stream.stop()
            self._changed.wait_for(lambda: not self._streams, 10.0)
        self._running = False
        self._stage.stop()

    def stop(self) -> None:
        """Make :meth:`run` return, from any thread or a signal handler's thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    # The stage's side: in the inference thread.

    def event(self, event: StreamEvent) -> None:
        name, what = event.stream, event.what
        if isinstance(what, SessionStarted):
            self._on_event(self._events.stream("up", name, what.session, at=time.time()))
            return
        if isinstance(what, SessionEnded):
            self._on_event(self._events.stream("down", name, what.session, at=time.time(), reason=what.reason))
            return
        change, timeline = what.change, what.timeline
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
                )
            )
        elif change.segment is not None:
            self._on_event(self._events.segment(change.kind, change.segment, change.pts, timeline, what.sighting))

    def analysed(self, frame: Frame, snapshot: StreamSnapshot) -> None:
        stream = self._streams[frame.stream]
        before, stream.snapshot = stream.snapshot, snapshot
        state = snapshot.state
        if before is None or before.state is not state:
            for known in type(state):
                self.metrics.stream_state.labels(frame.stream, known.value).set(known is state)

    def ended(self, analysis: StreamAnalysis, ended: SessionEnded) -> None:
        stream = self._streams[analysis.stream]
        self.metrics.forget_stream(analysis.stream)
        self._on_end(StreamReport(analysis.stream, stream.frames, tuple(analysis.outcomes), stream.still, stream.error))
        with self._changed:
            del self._streams[analysis.stream]
            if stream.error is not None:
                self._failures[analysis.stream] = stream.error
            self._changed.notify_all()


class _Stream:
    """A source with its decoder thread."""

    def __init__(self, source: Source, crossing: Crossing, guard: Guard) -> None:
        self.source = source
        self.crossing = crossing
        self.snapshot: StreamSnapshot | None = None
        self.frames = 0
        self.still = False
        self.error: str | None = None
        self._metrics = guard.metrics
        self._sampler = Sampler(guard.config.sampling)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"decoder-{source.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the decoder to end after the frame at hand."""
        self._stopped.set()
        self.crossing.close()

    def _run(self) -> None:
        reason = "end of stream"
        try:
            self._session(1)
        except InputError as error:
            self.error = reason = str(error)
            log.error("%s", error)
        except StreamGuardError as error:
            self.error = reason = str(error)
            log.error("stream '%s': %s", self.source.name, error)
        self._metrics.stream_up.labels(self.source.name).set(0)
        self.crossing.mark(SessionEnded(1, "stopped" if self._stopped.is_set() else reason, final=True))

    def _session(self, session: int) -> None:
        with self.source.open(session) as connection:
            self.still = connection.info.still
            self.crossing.mark(SessionStarted(session, connection.info))
            self._metrics.stream_up.labels(self.source.name).set(1)
            self._metrics.stream_width.labels(self.source.name).set(connection.info.width)
            self._pump(connection)

    def _pump(self, frames: Iterable[Frame]) -> None:
        name = self.source.name
        decoded = self._metrics.frames_decoded.labels(name)
        last = self._metrics.stream_last_frame.labels(name)
        for frame in frames:
            decoded.inc()
            last.set_to_current_time()
            self.frames += 1
            if frame.damaged:
                self._metrics.frames_corrupt.labels(name).inc()
            elif self._sampler.detect_due(frame.pts) and self.crossing.put(frame) is not None:
                reason = "stopped" if self._stopped.is_set() else "overtaken"
                self._metrics.frames_dropped.labels(name, reason).inc()
            if self._stopped.is_set():
                return
