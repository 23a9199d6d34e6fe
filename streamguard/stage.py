"""The inference stage: one thread, all streams, two models.

Everything reaches the thread through one inbox: completions of both backends, wake-ups from decoder
threads, and calls from outside. What it owns (analyses, backends, bookkeeping) nobody else touches.

    mailboxes -> detect batch -> scatter -> tracker -> gather faces -> classify batch -> scatter -> statistics

A :class:`~streamguard.vision.batcher.Batcher` stands before each model; a :class:`~streamguard.lane.Lane` keeps the
order of a stream. One that is slow or dead holds nobody but itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from streamguard import pixels
from streamguard.analysis import StreamAnalysis, TrackChange
from streamguard.frames import Face
from streamguard.inference.backend import Completion
from streamguard.ingest.mailbox import Crossing, Mark, Outage, SessionEnded, SessionStarted, Waiting
from streamguard.lane import Job, Lane
from streamguard.listener import StageListener, StreamEvent
from streamguard.load import LoadWatch
from streamguard.metrics import Metrics
from streamguard.models import ModelLine, Models
from streamguard.vision.overload import Overload
from streamguard.vision.sampler import SamplerSettings

log = logging.getLogger(__name__)

STALE = "stale"  # why a live frame that waited for too long, or a face in it, is not analysed


class _Face(NamedTuple):
    """One face in line for the classifier."""

    job: Job
    place: int  # among the faces of its frame


class _Detected(NamedTuple):
    jobs: list[Job]


class _Classified(NamedTuple):
    faces: list[_Face]


class _Wake(NamedTuple):
    stream: str


_STOP = object()


class InferenceStage:
    """The inference thread. :meth:`start` it, :meth:`add` streams, :meth:`stop` it.

    ``settings`` say how long a batch and a live frame may wait; ``overload`` is told of every turn and every loss.
    """

    def __init__(
        self,
        models: Models,
        inbox: SimpleQueue[object],
        listener: StageListener,
        metrics: Metrics,
        *,
        settings: SamplerSettings | None = None,
        overload: Overload | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or SamplerSettings()
        self._models = models
        self._inbox = inbox
        self._listener = listener
        self._metrics = metrics
        self._load = LoadWatch(overload or Overload(), metrics)
        self._clock = clock
        self._staleness = settings.max_staleness
        self._lanes: dict[str, Lane] = {}
        self._searches: ModelLine[Lane] = ModelLine("detect", models.detector, settings.batch_wait, metrics)
        self._faces: ModelLine[_Face] = ModelLine("classify", models.classifier, settings.batch_wait, metrics)
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    # From any thread.

    def start(self) -> None:
        self._thread.start()

    def wake(self, stream: str) -> None:
        """The mailbox of ``stream`` has something."""
        self._inbox.put(_Wake(stream))

    def add(self, analysis: StreamAnalysis, crossing: Crossing) -> None:
        """Take a stream in; its marks and frames come through ``crossing``."""
        self._inbox.put(lambda: self._add(Lane(analysis, crossing)))

    def remove(self, stream: str, reason: str) -> None:
        """Let a stream go: its tracks end, whatever waits of it is forgotten."""
        self._inbox.put(lambda: self._remove(stream, reason))

    def ask(self, stream: str, what: Callable[[StreamAnalysis], list[TrackChange]]) -> None:
        """Call ``what`` with the analysis of a stream, if it is still there; tell what that changes."""
        self._inbox.put(lambda: self._ask(stream, what))

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
            while (message := self._next()) is not _STOP:
                self._beat = time.monotonic()
                self.handle(message)
                self._beat = time.monotonic()
        finally:
            self._listener.over()

    def _next(self) -> object:
        """The next message; None when a batch has waited long enough for company."""
        due = [at for at in (self._searches.due, self._faces.due) if at is not None]
        try:
            return self._inbox.get(timeout=max(0.0, min(due) - self._clock()) if due else None)
        except Empty:
            return None

    def handle(self, message: object) -> None:
        """One turn of the loop: take a message in, then start whatever can start."""
        if isinstance(message, Completion):
            self._completed(message)
        elif isinstance(message, _Wake):
            if (lane := self._lanes.get(message.stream)) is not None:
                self._advance(lane)
        elif callable(message):
            message()
        self._dispatch()
        self._load.turn(self._clock())

    def _add(self, lane: Lane) -> None:
        self._lanes[lane.stream] = lane
        self._advance(lane)

    def _remove(self, stream: str, reason: str) -> None:
        if (lane := self._lanes.get(stream)) is not None:
            self._mark(lane, SessionEnded(0, reason, final=True))

    def _ask(self, stream: str, what: Callable[[StreamAnalysis], list[TrackChange]]) -> None:
        if (lane := self._lanes.get(stream)) is not None:
            self._changes(lane.analysis, what(lane.analysis))
            self._listener.standing(lane.snapshot())

    def _advance(self, lane: Lane) -> None:
        """Let a stream do what it can do by itself, then get in line for its next search."""
        more = True
        while more and not lane.removed:
            more = lane.fill()
            while not lane.removed and (head := lane.turn()) is not None:
                more = True
                self._go_on(lane, head)
        if lane.removed:
            return
        if lane.wants_search:
            lane.in_line = True
            self._searches.batcher.put(lane.stream, lane, self._clock())
        self._load.look(lane)

    def _go_on(self, lane: Lane, head: Mark | Job) -> None:
        """The next step of the oldest thing in a stream's hand."""
        if not isinstance(head, Job):
            lane.queue.popleft()
            self._mark(lane, head)
        elif head.chosen:
            lane.queue.popleft()
            self._finish(lane, head)
        else:
            self._choose(lane, head)

    def _mark(self, lane: Lane, mark: Mark) -> None:
        analysis = lane.analysis
        if isinstance(mark, SessionStarted):
            analysis.begin(mark)
        elif isinstance(mark, Outage):
            analysis.outage(mark.reason)
        else:
            self._changes(analysis, analysis.end(mark.reason))
        self._listener.event(StreamEvent(lane.stream, mark))
        self._listener.standing(lane.snapshot())
        if isinstance(mark, SessionEnded) and mark.final:
            lane.removed = True
            lane.queue.clear()
            lane.searching = None  # a frame and its lane hold each other
            del self._lanes[lane.stream]
            self._load.look(lane)
            self._searches.batcher.drop(lane.stream)
            self._faces.batcher.drop(lane.stream)
            self._listener.ended(analysis, mark)

    def _choose(self, lane: Lane, job: Job) -> None:
        """Follow the faces of a frame, or go by where they should be, and get those that are due in line."""
        frame = job.waiting.frame
        choose = lane.analysis.between
        if job is lane.searching:
            with self._metrics.stage_duration.labels("track").time():
                changes = lane.analysis.follow(frame, self._faces_of(job))
            lane.searching = None
            self._changes(lane.analysis, changes)
            choose = lane.analysis.choose
        started = time.perf_counter()
        job.crops, changes = choose(frame)
        if job.crops:
            self._metrics.stage_duration.labels("crop").observe(time.perf_counter() - started)
        self._changes(lane.analysis, changes)
        if not job.crops and not job.waiting.due:
            lane.queue.popleft()  # nobody needed it
            return
        job.chosen, job.left = True, len(job.crops)
        job.logits = [None] * job.left
        for index in range(job.left):
            self._faces.batcher.put(lane.stream, _Face(job, index), self._clock())

    def _faces_of(self, job: Job) -> list[Face]:
        assert job.raw is not None
        assert job.letterbox is not None
        picture = job.waiting.frame.picture
        return self._models.decoder.decode(job.raw, job.letterbox, picture.width, picture.height)

    def _finish(self, lane: Lane, job: Job) -> None:
        frame, looks = job.waiting.frame, job.looks
        if looks:
            self._listener.looked(frame, looks)
        self._changes(lane.analysis, lane.analysis.scored(frame, [(look.track, look.logit) for look in looks]))
        if looks:
            lane.latency = self._clock() - job.waiting.since
            self._metrics.frame_to_score.observe(lane.latency)
        self._listener.analysed(frame)
        self._listener.standing(lane.snapshot())

    def _dispatch(self) -> None:
        """Fill the free slots: faces first (their frames are the older ones), then the streams in turn."""
        busy = True
        while busy:
            busy = False
            # While nothing is searched no faces come; a stream that is searched asks for no other search.
            while faces := self._faces.take(self._clock(), None if self._searches.flying else 1):
                self._classify(faces)
                busy = True
            while lanes := self._searches.take(self._clock(), self._askers()):
                self._detect(lanes)
                busy = True
        for line in (self._searches, self._faces):
            line.tell()
            if line.changed():
                self._listener.engines()

    def _askers(self) -> int:
        """Streams that may ask for a search before another one is back."""
        return sum(lane.searching is None for lane in self._lanes.values())

    def _detect(self, lanes: list[Lane]) -> None:
        """Search the newest frames of some streams together."""
        started = time.perf_counter()
        width, height = self._models.size
        jobs, canvases = [], []
        for lane in lanes:
            lane.in_line = False
            waiting = self._fresh(lane)
            if waiting is None:
                self._advance(lane)
                continue
            canvas, box = pixels.letterbox(waiting.frame.picture, width, height, self._models.pad)
            lane.searching = job = Job(lane, waiting, box)
            lane.queue.append(job)
            jobs.append(job)
            canvases.append(canvas)
            self._advance(lane)
        if jobs:
            self._metrics.stage_duration.labels("prepare").observe(time.perf_counter() - started)
            self._searches.submit(canvases, _Detected(jobs))

    def _fresh(self, lane: Lane) -> Waiting | None:
        """A stream's next frame to search; what is stale, and what was overtaken, is told to the overload policy."""
        while (waiting := lane.search()) is not None:
            if not lane.crossing.live:
                return waiting
            stale = self._clock() - waiting.since > self._staleness
            self._load.frame(lost=waiting.overtook + stale)
            if not stale:
                return waiting
            self._metrics.frames_dropped.labels(lane.stream, STALE).inc()
        return None

    def _classify(self, faces: list[_Face]) -> None:
        """Score some faces, of whatever streams, together."""
        fresh = []
        for face in faces:
            lane, since = face.job.lane, face.job.waiting.since
            if lane.crossing.live and self._clock() - since > self._staleness:
                self._skipped(face, STALE)
            else:
                fresh.append(face)
        if fresh:
            pictures = [face.job.crops[face.place].picture for face in fresh]
            self._faces.submit(pictures, _Classified(fresh))

    def _completed(self, done: Completion) -> None:
        if isinstance(done.token, _Detected):
            self._searches.completed(done)
            self._found(done.token.jobs, done)
        elif isinstance(done.token, _Classified):
            self._faces.completed(done)
            self._judged(done.token.faces, done)

    def _found(self, jobs: list[Job], done: Completion) -> None:
        if done.outputs is None:
            self._complain("detect", [job.lane for job in jobs], done)
        for index, job in enumerate(jobs):
            lane = job.lane
            if lane.removed:
                continue
            if done.outputs is None:
                self._metrics.frames_dropped.labels(lane.stream, "device error").inc()
                lane.queue.remove(job)
                lane.searching = None
            else:
                job.raw = done.outputs[index]
            self._advance(lane)

    def _judged(self, faces: list[_Face], done: Completion) -> None:
        if done.outputs is None:
            self._complain("classify", [face.job.lane for face in faces], done)
            for face in faces:
                self._skipped(face, "device error")
            return
        for face, raw in zip(faces, np.reshape(done.outputs, len(faces)), strict=True):
            face.job.logits[face.place] = self._models.calibration.calibrated(float(raw))
            self._scored(face)

    def _skipped(self, face: _Face, reason: str) -> None:
        if not face.job.lane.removed:
            self._metrics.faces_skipped.labels(face.job.lane.stream, reason).inc()
        self._scored(face)

    def _scored(self, face: _Face) -> None:
        face.job.left -= 1
        if not face.job.left and not face.job.lane.removed:
            self._advance(face.job.lane)

    def _complain(self, stage: str, lanes: list[Lane], done: Completion) -> None:
        """One line a batch: the frames in it are lost, and the cause is named."""
        streams = ", ".join(sorted({f"'{lane.stream}'" for lane in lanes})) or "none that is still there"
        log.error("%s failed for a batch of streams %s: %s", stage, streams, done.error)

    def _changes(self, analysis: StreamAnalysis, changes: list[TrackChange]) -> None:
        for change in changes:
            self._listener.event(StreamEvent(analysis.stream, change))
