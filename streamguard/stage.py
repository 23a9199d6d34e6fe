"""The inference stage: one thread, all streams, two models.

Everything reaches the thread through one inbox: completions of both backends, wake-ups from decoder
threads, and calls from outside. What it owns (analyses, backends, bookkeeping) nobody else touches.
At most one frame of a stream is between mailbox and statistics, so order needs no buffer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from streamguard import pixels
from streamguard.analysis import FaceCrop, StreamAnalysis, StreamSnapshot, TrackChange
from streamguard.decision.calibration import Temperature
from streamguard.frames import U8, Frame
from streamguard.inference.backend import Backend, Completion
from streamguard.ingest.mailbox import Crossing, Mark, Outage, SessionEnded, SessionStarted, Waiting
from streamguard.metrics import Metrics
from streamguard.pixels import Letterbox
from streamguard.vision.detector import FaceDecoder

log = logging.getLogger(__name__)


class Models(NamedTuple):
    """The two compiled models and what turns their raw output into faces and logits."""

    detector: Backend
    decoder: FaceDecoder
    pad: int
    size: tuple[int, int]
    classifier: Backend
    calibration: Temperature


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What the stage tells its owner of a stream: a mark or a track's change."""

    stream: str
    what: Mark | TrackChange


class StageListener:
    """What the owner of a stage hears, always in the inference thread. Override what you need."""

    def event(self, event: StreamEvent) -> None:
        """A mark or a track's change, in the order of the stream."""

    def analysed(self, frame: Frame) -> None:
        """All faces of a frame are judged."""

    def standing(self, snapshot: StreamSnapshot) -> None:
        """How a stream stands, after each analysed frame and each mark."""

    def ended(self, analysis: StreamAnalysis, ended: SessionEnded) -> None:
        """The stream gives no more frames; its analysis holds the outcomes."""

    def over(self) -> None:
        """The thread ends: it was stopped, or it failed, with its traceback on standard error."""


@dataclass(slots=True, eq=False)
class _Job:
    """One frame between mailbox and statistics."""

    lane: _Lane
    waiting: Waiting
    letterbox: Letterbox | None = None
    crops: list[FaceCrop] = field(default_factory=list)
    logits: list[float | None] = field(default_factory=list)
    left: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """One stream in the stage."""

    analysis: StreamAnalysis
    crossing: Crossing
    busy: _Job | None = None
    removed: bool = False


class _Detected(NamedTuple):
    job: _Job


class _Classified(NamedTuple):
    job: _Job
    face: int


_WAKE = object()
_STOP = object()


class InferenceStage:
    """The inference thread. :meth:`start` it, :meth:`add` streams, :meth:`stop` it."""

    def __init__(self, models: Models, inbox: SimpleQueue[object], listener: StageListener, metrics: Metrics) -> None:
        self._models = models
        self._inbox = inbox
        self._listener = listener
        self._metrics = metrics
        self._lanes: deque[_Lane] = deque()
        self._crops: deque[tuple[_Job, int]] = deque()
        self._detecting = 0
        self._classifying = 0
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    # From any thread.

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A mailbox has something."""
        self._inbox.put(_WAKE)

    def add(self, analysis: StreamAnalysis, crossing: Crossing) -> None:
        """Take a stream in; its marks and frames come through ``crossing``."""
        self._inbox.put(lambda: self._lanes.append(_Lane(analysis, crossing)))

    def remove(self, stream: str, reason: str) -> None:
        """Let a stream go: its tracks end, whatever waits of it is forgotten."""
        self._inbox.put(lambda: self._remove(stream, reason))

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after what is in flight, and free both backends."""
        self._inbox.put(_STOP)
        self._thread.join(timeout)
        self._models.detector.close()
        self._models.classifier.close()

    @property
    def running(self) -> bool:
        """The thread is there."""
        return self._thread.is_alive()

    def stuck_for(self) -> float:
        """Seconds since the loop last turned with work at hand; 0 while it waits for work."""
        return 0.0 if self._inbox.empty() else time.monotonic() - self._beat

    # In the inference thread.

    def _run(self) -> None:
        try:
            while (message := self._inbox.get()) is not _STOP:
                self._beat = time.monotonic()
                self.handle(message)
                self._beat = time.monotonic()
        finally:
            self._listener.over()

    def handle(self, message: object) -> None:
        """One turn of the loop: take a message in, then start whatever can start."""
        if isinstance(message, Completion):
            self._completed(message)
        elif callable(message):
            message()
        self._dispatch()

    def _dispatch(self) -> None:
        """Fill the free slots: crops first (their frames are the older ones), then the streams in turn."""
        while self._crops and self._classifying < self._models.classifier.slots:
            self._classify(*self._crops.popleft())
        for _ in range(len(self._lanes)):
            if not self._lanes or self._detecting >= self._models.detector.slots:
                return
            lane = self._lanes[0]
            self._lanes.rotate(-1)
            if lane.busy is None:
                self._advance(lane)

    def _advance(self, lane: _Lane) -> None:
        """Work off a stream's marks up to its next frame, and submit that."""
        while (item := lane.crossing.take()) is not None:
            if isinstance(item, Waiting):
                self._detect(lane, item)
                return
            self._mark(lane, item)

    def _mark(self, lane: _Lane, mark: Mark) -> None:
        analysis = lane.analysis
        if isinstance(mark, SessionStarted):
            analysis.begin(mark)
        elif isinstance(mark, Outage):
            analysis.outage(mark.reason)
        else:
            self._changes(analysis, analysis.end(mark.reason))
        self._tell(analysis.stream, mark)
        self._listener.standing(analysis.snapshot())
        if isinstance(mark, SessionEnded) and mark.final:
            self._lanes.remove(lane)
            self._listener.ended(analysis, mark)

    def _remove(self, stream: str, reason: str) -> None:
        for lane in [lane for lane in self._lanes if lane.analysis.stream == stream]:
            lane.removed = True
            ended = SessionEnded(0, reason, final=True)
            self._mark(lane, ended)

    def _detect(self, lane: _Lane, waiting: Waiting) -> None:
        started = time.perf_counter()
        width, height = self._models.size
        canvas, box = pixels.letterbox(waiting.frame.picture, width, height, self._models.pad)
        lane.busy = job = _Job(lane, waiting, box)
        self._detecting += 1
        self._metrics.stage_duration.labels("prepare").observe(time.perf_counter() - started)
        self._metrics.batch_size.labels("detect").observe(1)
        self._models.detector.submit(canvas[None], _Detected(job))

    def _classify(self, job: _Job, index: int) -> None:
        if job.lane.removed:
            return
        self._classifying += 1
        self._metrics.batch_size.labels("classify").observe(1)
        picture: U8 = job.crops[index].picture
        self._models.classifier.submit(picture[None], _Classified(job, index))

    def _completed(self, done: Completion) -> None:
        token = done.token
        if isinstance(token, _Detected):
            self._detecting -= 1
            self._metrics.stage_duration.labels("detect").observe(done.seconds)
            self._found(token.job, done)
        elif isinstance(token, _Classified):
            self._classifying -= 1
            self._metrics.stage_duration.labels("classify").observe(done.seconds)
            self._judged(token.job, token.face, done)

    def _found(self, job: _Job, done: Completion) -> None:
        lane, frame = job.lane, job.waiting.frame
        if lane.removed:
            return
        if done.outputs is None:
            self._lost(job, done)
            return
        started = time.perf_counter()
        picture = frame.picture
        assert job.letterbox is not None
        faces = self._models.decoder.decode(done.outputs[0], job.letterbox, picture.width, picture.height)
        job.crops, changes = lane.analysis.detected(frame, faces)
        self._metrics.stage_duration.labels("track").observe(time.perf_counter() - started)
        self._changes(lane.analysis, changes)
        job.left = len(job.crops)
        job.logits = [None] * job.left
        self._crops.extend((job, index) for index in range(job.left))
        if not job.crops:
            self._finish(job)

    def _judged(self, job: _Job, index: int, done: Completion) -> None:
        if job.lane.removed:
            return
        if done.outputs is None:
            self._error(job, "classify", done)
        else:
            job.logits[index] = self._models.calibration.calibrated(float(np.ravel(done.outputs)[0]))
        job.left -= 1
        if job.left == 0:
            self._finish(job)

    def _finish(self, job: _Job) -> None:
        lane, frame = job.lane, job.waiting.frame
        scores = [(crop.track, logit) for crop, logit in zip(job.crops, job.logits, strict=True) if logit is not None]
        self._changes(lane.analysis, lane.analysis.scored(frame, scores))
        if scores:
            self._metrics.frame_to_score.observe(time.monotonic() - job.waiting.since)
        lane.busy = None
        self._listener.analysed(frame)
        self._listener.standing(lane.analysis.snapshot())

    def _lost(self, job: _Job, done: Completion) -> None:
        self._error(job, "detect", done)
        self._metrics.frames_dropped.labels(job.lane.analysis.stream, "device error").inc()
        job.lane.busy = None

    def _error(self, job: _Job, stage: str, done: Completion) -> None:
        log.error("stream '%s': %s failed: %s", job.lane.analysis.stream, stage, done.error)
        if stage == "classify":
            self._metrics.faces_skipped.labels(job.lane.analysis.stream, "device error").inc()

    def _changes(self, analysis: StreamAnalysis, changes: list[TrackChange]) -> None:
        for change in changes:
            self._tell(analysis.stream, change)

    def _tell(self, stream: str, what: Mark | TrackChange) -> None:
        self._listener.event(StreamEvent(stream, what))
