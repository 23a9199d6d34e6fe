"""One stream's chain after the detector: faces to tracks, crops, scores, statistics, changes.

Pure: no thread, no clock, no device. The inference thread owns every :class:`StreamAnalysis` and drives it
with what the backends return; time is the stream's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.passage import low_level
from streamguard.decision.segments import Change, DecisionSettings, Judged, TrackJudge, stream_state
from streamguard.delivery.events import Sighting, Timeline
from streamguard.frames import U8, Box, Clock, Face, Frame, Score, Segment, State, StreamSnapshot, Track
from streamguard.ingest.mailbox import SessionStarted
from streamguard.metrics import Metrics
from streamguard.vision.classifier import FaceInput
from streamguard.vision.quality import QualityGate, QualitySettings
from streamguard.vision.sampler import Need, Pace, SamplerSettings, TrackSampler, unhurried
from streamguard.vision.tracker import Tracker, TrackerSettings

MOST_FACES = 32
"""Faces classified a frame: a bound on what a picture full of faces may cost. The rest is counted as skipped."""

RATE: Final = "rate"
"""Why scores that come more seldom than the operating points were calibrated for judge nothing."""

_BETWEEN: Final = 0.25  # seconds since its search after which a face's place is no longer believed in
_STEADY: Final = 5.0  # seconds of one opinion after which a track is settled


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """What one stream's chain is set to."""

    face: FaceInput
    point: OperatingPoint
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    decision: DecisionSettings = field(default_factory=DecisionSettings)


class FaceCrop(NamedTuple):
    """One face to classify: its track, its box, and (S, S, 3) uint8 RGB."""

    track: int
    box: Box
    picture: U8


class TrackChange(NamedTuple):
    """A change of one track, with where its face was last seen and how stream time maps to the wall clock."""

    session: int
    track: int
    change: Change
    sighting: Sighting
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class TrackOutcome:
    """A track that has ended. ``best`` is its highest single score, a logit; ``segments`` its flagged passages."""

    session: int
    judged: Judged
    best: float | None
    segments: tuple[Segment, ...]


@dataclass(slots=True)
class _Followed:
    """A track with its judge, where its face was last seen, and what is kept for its outcome.

    ``steady``: since when its scores and its state have been of one opinion; None while they are not.
    """

    judge: TrackJudge
    sighting: Sighting = field(default_factory=Sighting)
    found: float = 0.0
    steady: float | None = None
    best: float | None = None
    segments: list[Segment] = field(default_factory=list)


class StreamAnalysis:
    """The chain of one stream, session after session.

    ``outcomes`` holds every track that was judged if ``keep`` is set: for files, which end. ``pace`` says what an
    overloaded machine does less of.
    """

    def __init__(
        self,
        stream: str,
        settings: AnalysisSettings,
        metrics: Metrics,
        *,
        keep: bool = False,
        pace: Callable[[], Pace] = unhurried,
    ) -> None:
        self.stream = stream
        self.outcomes: list[TrackOutcome] = []
        self._keep = keep
        self._settings = settings
        self._metrics = metrics
        metrics.segments.labels(stream, State.FLAGGED.value)  # exists at 0: a counter that appears at 1 has no increase
        self._gate = QualityGate(settings.quality)
        self._followed: dict[int, _Followed] = {}
        self._session = 0
        self._still = False
        self._tracker = Tracker(settings.tracker, 0)
        self._pace = pace
        self._sampler = TrackSampler(settings.sampler, pace)
        self._matched: list[tuple[Track, Face]] = []
        self._tracks: tuple[Track, ...] = ()
        self._pts = 0.0
        self._captured_at = 0.0
        self._outage: str | None = "no frames"
        self._clock: Clock = "arrival"

    def begin(self, started: SessionStarted) -> None:
        """A session starts: tracks and evidence of the last one are gone (:meth:`end` closed them)."""
        self._session = started.session
        self._still = started.info.still
        settings = self._settings.tracker
        # A still has no second picture that could confirm a face.
        self._tracker = Tracker(replace(settings, confirm=1) if self._still else settings, started.session)
        self._sampler = TrackSampler(self._settings.sampler, self._pace)
        self._matched = []
        self._tracks = ()
        self._pts = 0.0
        self._outage = None

    @property
    def point(self) -> OperatingPoint:
        """What the evidence is held against."""
        return self._settings.point

    def retune(self, point: OperatingPoint) -> list[TrackChange]:
        """From now on the evidence is held against another operating point: open segments close."""
        self._settings = replace(self._settings, point=point)
        changes: list[TrackChange] = []
        for track, followed in self._followed.items():
            followed.steady = None
            changes += self._changed(track, followed, followed.judge.retune(self._pts, point))
        return changes

    def outage(self, reason: str | None) -> None:
        """Frames come that can't be judged, for ``reason``; None: they can again."""
        self._outage = reason

    def follow(self, frame: Frame, faces: Sequence[Face]) -> list[TrackChange]:
        """Join the faces found in a frame to tracks: what changed because others went. :meth:`choose` comes next."""
        self._at(frame)
        changes: list[TrackChange] = []
        update = self._tracker.update(frame.pts, faces)
        self._tracks = tuple(update.tracks)
        self._matched = update.matched
        if update.refused:
            self._metrics.faces_skipped.labels(self.stream, "too many faces").inc(update.refused)
        for track in update.lost:
            changes += self._finish(track.id, "face gone")
        return changes

    def choose(self, frame: Frame) -> tuple[list[FaceCrop], list[TrackChange]]:
        """Which of the faces just found to classify now, and what changed meanwhile."""
        crops: list[FaceCrop] = []
        changes: list[TrackChange] = []
        for track, face in self._matched:
            changes += self._take(frame, track, face, crops)
        for track_id in self._followed.keys() - {track.id for track, _ in self._matched}:
            followed = self._followed[track_id]
            changes += self._changed(track_id, followed, followed.judge.advance(frame.pts))
        return crops, changes

    def between(self, frame: Frame) -> tuple[list[FaceCrop], list[TrackChange]]:
        """The same for a frame that was not searched: tracks that need more scores than there are searches.

        Their faces are taken from where they should be by now; only those that the last search found, not long ago.
        """
        crops: list[FaceCrop] = []
        changes: list[TrackChange] = []
        wanted = {track.id for track, _ in self._matched if self._wanted_between(track.id, frame.pts)}
        if wanted:
            self._at(frame)
            for track in self._tracker.predict(frame.pts):
                if track.id in wanted:
                    changes += self._take(frame, track, Face(track.box, track.confidence), crops)
        return crops, changes

    def _wanted_between(self, track: int, pts: float) -> bool:
        followed = self._followed.get(track)
        if followed is None or pts - followed.found > _BETWEEN:
            return False
        quality = followed.sighting.quality
        return quality is not None and quality.reason is None and not self._sampler.too_slow(track)

    def _at(self, frame: Frame) -> None:
        self._pts, self._captured_at, self._clock = frame.pts, frame.captured_at, frame.clock

    def _take(self, frame: Frame, track: Track, face: Face, crops: list[FaceCrop]) -> list[TrackChange]:
        followed = self._follow(track)
        searched = track.missed == 0
        if searched:
            followed.found = frame.pts
        need = self._need(followed, frame.pts)
        if not (self._sampler.due(track.id, frame.pts, need, searched=searched) or self._still):
            return self._changed(track.id, followed, followed.judge.advance(frame.pts))
        quality = self._gate.judge(face, frame.picture)
        followed.sighting = Sighting(face.box, quality)
        reason = quality.reason
        if reason is None and self._sampler.too_slow(track.id):
            reason = RATE
        if reason is None and len(crops) >= MOST_FACES:
            reason = "too many faces"
        if reason is not None:
            self._metrics.faces_skipped.labels(self.stream, reason).inc()
            return self._changed(track.id, followed, followed.judge.skip(frame.pts, reason))
        crops.append(FaceCrop(track.id, face.box, self._settings.face.prepare(frame.picture, face.box)))
        return []

    def _need(self, followed: _Followed, pts: float) -> Need:
        """Undecided until state and scores agree; settled once they have agreed for long."""
        if followed.steady is None:
            return Need.UNDECIDED
        return Need.SETTLED if pts - followed.steady >= _STEADY else Need.USUAL

    def _steady(self, judge: TrackJudge, score: Score) -> bool:
        """Whether the last score and the evidence say what the state says."""
        threshold = self._settings.point.threshold
        if judge.state is State.FLAGGED:
            return min(score.logit, judge.statistic) >= threshold
        return judge.state is State.CLEAR and max(score.logit, judge.statistic) < low_level(threshold)

    def scored(self, frame: Frame, scores: Sequence[tuple[int, float]]) -> list[TrackChange]:
        """Judge the calibrated logits of one frame's faces, (track, logit) each."""
        changes: list[TrackChange] = []
        for track, logit in scores:
            followed = self._followed[track]
            followed.best = logit if followed.best is None else max(followed.best, logit)
            score = Score(track, frame.pts, logit)
            changes += self._changed(track, followed, followed.judge.observe(score))
            if not self._steady(followed.judge, score):
                followed.steady = None
            elif followed.steady is None:
                followed.steady = frame.pts
        if scores:
            self._metrics.faces_scored.labels(self.stream).inc(len(scores))
        return changes

    def end(self, reason: str) -> list[TrackChange]:
        """The session is over: every track ends, open segments close."""
        changes: list[TrackChange] = []
        for track in list(self._followed):
            changes += self._finish(track, reason)
        self._tracks = ()
        self._outage = "no frames"
        return changes

    def timeline(self) -> Timeline:
        """How stream time maps to the wall clock, as of the last frame."""
        offset = self._captured_at - self._pts
        return Timeline(self._clock, lambda pts: pts + offset)

    def snapshot(self) -> StreamSnapshot:
        """The stream as it stands."""
        judges = {track: followed.judge for track, followed in self._followed.items()}
        state, reason = stream_state(judges.values(), self._outage)
        return StreamSnapshot(
            self.stream,
            self._session,
            self._pts,
            state,
            reason,
            self._tracks,
            tuple((track, judge.state) for track, judge in judges.items()),
            self._pace().step,
            reasons=tuple((track, judge.reason) for track, judge in judges.items() if judge.reason),
        )

    def _follow(self, track: Track) -> _Followed:
        followed = self._followed.get(track.id)
        if followed is None:
            settings = self._settings
            judge = TrackJudge(settings.decision, settings.point, self.stream, self._session, track.id)
            followed = self._followed[track.id] = _Followed(judge)
        return followed

    def _finish(self, track: int, reason: str) -> list[TrackChange]:
        followed = self._followed.get(track)
        if followed is None:  # it ended before it was confirmed
            return []
        changes = self._changed(track, followed, followed.judge.end(self._pts, reason))
        if self._keep:
            judged, segments = followed.judge.judged, tuple(followed.segments)
            self.outcomes.append(TrackOutcome(self._session, judged, followed.best, segments))
        del self._followed[track]
        self._sampler.forget(track)
        return changes

    def _changed(self, track: int, followed: _Followed, changes: Sequence[Change]) -> list[TrackChange]:
        for change in changes:
            if change.kind == "closed" and change.segment is not None:
                if self._keep:
                    followed.segments.append(change.segment)
                self._metrics.segments.labels(self.stream, change.segment.state.value).inc()
        if not changes:
            return []
        timeline = self.timeline()
        return [TrackChange(self._session, track, change, followed.sighting, timeline) for change in changes]
