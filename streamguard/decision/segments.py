"""Scores of one track to flagged segments: a state machine over the track's statistic.

::

              statistic >= threshold       1 s long, enough evidence
      QUIET ────────────────────> PENDING ────────────────────> OPEN <─────────────┐
        ^ ^        < low             │                            │ < low          │ >= threshold
        │ └──────────────────────────┘                            v                │ within 2 s
        └──────────────────────────────────────────────────── FALLING ─────────────┘
                       2 s are over: closed

The *low level* lies under the threshold (:func:`~streamguard.decision.passage.low_level`): a segment begins where
the statistic left it, and ends where it falls under it. Where the statistic crosses a level between two scores,
the time is interpolated, so that segments depend little on how often a track was scored.

After 2 s without a score the evidence is void: an open segment closes at its last score, and the track is
``inconclusive``. Nothing that was not looked at is ever ``clear``.
"""

from __future__ import annotations

import enum
import math
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.passage import Passage, Tally, crossing, lifted, low_level
from streamguard.decision.statistics import Ewma, Rise
from streamguard.frames import Score, Segment, State

TOO_LITTLE: Final = "too little evidence"
NO_SCORES: Final = "no scores"
NOT_FINITE: Final = "damaged score"
NO_FACE: Final = "no face"
RETUNED: Final = "operating point changed"

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:streamguard:segment")
_GRAIN: Final = 1e-6  # seconds: times that differ by less are the same

Kind = Literal["opened", "updated", "closed", "state"]


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """How evidence becomes a decision. Times in seconds of stream time.

    ``tau``, ``clip``: of :class:`~streamguard.decision.statistics.Ewma`; ``memory``, ``lag``: of
    :class:`~streamguard.decision.statistics.Rise`. ``least``: shortest evidence and shortest segment;
    ``least_scores``: fewest scores that are evidence. ``merge``: segments closer than this are one.
    ``silence``: without a score for longer, a track is inconclusive. ``lead``: the statistic follows the scores
    with a delay; a segment begins this much before it left its low level, half the window ``tau``.
    ``every``: at most one update in this time.
    """

    tau: float = 2.0
    clip: float = 4.0
    memory: float = 30.0
    lag: float = 2.0
    least: float = 1.0
    least_scores: int = 3
    merge: float = 2.0
    silence: float = 2.0
    lead: float = 1.0
    every: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value, least = getattr(self, name), 1e-3 if name in {"tau", "clip", "memory"} else 0
            if not least <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a finite number from {least}")


@dataclass(frozen=True, slots=True)
class Change:
    """Something that others should hear of, at ``pts``.

    ``opened``, ``updated`` and ``closed`` carry the segment as it is now; ``state`` carries none. ``state`` and
    ``reason`` are the track's; for ``closed``, ``reason`` says why if it did not end by its own falling.
    ``score_logit`` is the statistic, ``point`` what it was held against.
    """

    kind: Kind
    segment: Segment | None
    state: State
    reason: str | None
    pts: float
    score_logit: float
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class Judged:
    """A track as a whole, for the verdict on a file.

    ``peak`` is the highest statistic (a logit) that enough evidence stood behind, None where none ever did.
    ``frames`` counts the scores, ``segments`` the flagged passages.
    """

    track: int
    state: State
    reason: str | None
    peak: float | None
    frames: int
    segments: int


class StreamJudgement(NamedTuple):
    """What is said of a stream now."""

    state: State
    reason: str | None


class _Phase(enum.Enum):
    QUIET = enum.auto()
    PENDING = enum.auto()
    OPEN = enum.auto()
    FALLING = enum.auto()


class TrackJudge:
    """Judge one track from its scores.

    Every call takes the stream time and returns the changes that it brought, in order. ``state`` and ``reason``
    are what holds now, ``statistic`` the running evidence. Calls come in the order of time.

    Args:
        settings: how evidence becomes a decision.
        point: the threshold of the statistic.
        stream: name of the stream.
        session: number of the connection.
        track: number of the track in it.

    Segments get the same ids whenever the same scores are replayed; what sets two runs apart is for events to add.
    """

    def __init__(
        self, settings: DecisionSettings, point: OperatingPoint, stream: str, session: int, track: int
    ) -> None:
        self.settings = settings
        self.point = point
        self.stream, self.session, self.track = stream, session, track
        self.state = State.INCONCLUSIVE
        self.reason: str | None = TOO_LITTLE
        self._low = low_level(point.threshold)
        self._ewma = Ewma(settings.tau, settings.clip, hold=settings.silence, start=min(0.0, self._low))
        self._rise = Rise(settings.memory, settings.lag, clip=settings.clip, hold=settings.silence)
        self._value = self._ewma.value
        self._phase = _Phase.QUIET
        self._passage: Passage | None = None
        self._segments = 0
        self._last: float | None = None  # time of the last score
        self._floor = -math.inf  # no segment starts before
        self._left: float | None = None  # when the statistic left its low level; None while it is there
        self._climb = Tally()  # the scores since then
        self._skipped: str | None = None  # why the face was not scored the last time
        self._retuned = False  # and not scored since
        self._skips: Counter[str] = Counter()
        self._frames = 0
        self._peak: float | None = None
        self._announced: tuple[State, str | None] = (self.state, self.reason)
        self._announced_at = -math.inf
        self._over = False

    @property
    def statistic(self) -> float:
        """The running evidence, a logit: the level of the scores, or their rise on the level's scale."""
        return self._value

    @property
    def judged(self) -> Judged:
        """The track as a whole, up to now."""
        reason = None
        if self._segments:
            state = State.FLAGGED
        elif self._peak is not None:
            state = State.CLEAR
        else:
            state = State.INCONCLUSIVE
            reason = self._skips.most_common(1)[0][0] if self._skips else TOO_LITTLE
        return Judged(self.track, state, reason, self._peak, self._frames, self._segments)

    def observe(self, score: Score) -> list[Change]:
        """The face was scored. A score that is not finite is a skipped face; one after the end is ignored."""
        if self._over:
            return []
        if not math.isfinite(score.logit):
            return self.skip(score.pts, NOT_FINITE)
        changes = self._pass(score.pts)
        earlier = (self._last, self._value) if self._last is not None and self._ewma.samples else None
        level = self._ewma.update(score.pts, score.logit)
        value = self._value = lifted(level, self._rise.update(score.pts, score.logit, level), self.point)
        if earlier is None:
            self._floor = max(self._floor, score.pts)
        self._last = score.pts if self._last is None else max(self._last, score.pts)
        self._skipped, self._retuned = None, False
        self._frames += 1
        if self._enough:
            self._peak = value if self._peak is None else max(self._peak, value)
        changes += self._step(self._last, value, earlier)
        return changes + self._settle(score.pts)

    def skip(self, pts: float, reason: str) -> list[Change]:
        """The face was seen and not scored, for ``reason``."""
        if self._over:
            return []
        self._skipped = reason
        self._skips[reason] += 1
        return self.advance(pts)

    def advance(self, pts: float) -> list[Change]:
        """Time passed and the face was not scored: to be called about once a second at least."""
        if self._over:
            return []
        return self._pass(pts) + self._settle(pts)

    def retune(self, pts: float, point: OperatingPoint) -> list[Change]:
        """From now on the evidence is held against another operating point. An open segment closes: one judges each."""
        if self._over:
            return []
        changes = self._pass(pts) + self._close(pts, RETUNED)
        self.point, self._low = point, low_level(point.threshold)
        self._phase, self._retuned = _Phase.QUIET, True
        self._left, self._climb = None, Tally()
        self._floor = pts
        return changes + self._settle(pts)

    def end(self, pts: float, reason: str) -> list[Change]:
        """The track is over: lost, or its stream went down. Nothing comes after it."""
        if self._over:
            return []
        changes = self._pass(pts) + self._close(pts, reason)
        self._void()
        self._over = True
        if self.state is not State.INCONCLUSIVE:
            self.state, self.reason = State.INCONCLUSIVE, reason
            changes.append(self._change("state", None, pts, reason))
        return changes

    @property
    def _enough(self) -> bool:
        """Whether there is evidence to judge by."""
        limits, ewma = self.settings, self._ewma
        return ewma.coverage >= limits.least - _GRAIN and ewma.samples >= limits.least_scores

    def _pass(self, pts: float) -> list[Change]:
        """What the mere passing of time until ``pts`` does."""
        if self._passage is not None and pts - self._passage.fell >= self.settings.merge:
            changes = self._close(pts, None)
        else:
            changes = []
        if self._last is not None and self._ewma.samples and pts - self._last > self.settings.silence:
            changes += self._close(pts, self._skipped or NO_SCORES)
            self._void()
        return changes

    def _void(self) -> None:
        """The evidence so far says nothing of what comes."""
        self._ewma.restart()
        self._rise.restart()
        self._value = self._ewma.value
        self._phase = _Phase.QUIET
        self._left, self._climb = None, Tally()

    def _step(self, pts: float, value: float, earlier: tuple[float, float] | None) -> list[Change]:
        """Move the machine by one score; ``earlier`` is the time and the statistic of the one before."""
        low = value < self._low
        crossed = crossing(self._low, earlier, (pts, value))
        if low:
            self._left, self._climb = None, Tally()
        else:
            self._left = crossed if self._left is None else self._left
            if pts >= self._floor:
                self._climb.add(value)

        if self._phase is _Phase.QUIET and value >= self.point.threshold:
            self._phase = _Phase.PENDING
        if self._phase is _Phase.PENDING and low:
            self._phase = _Phase.QUIET
        if self._phase is _Phase.PENDING:
            return self._open(pts)
        if self._passage is None:
            return []
        if self._phase is _Phase.OPEN and low:
            self._phase = _Phase.FALLING
            self._passage.fell, self._passage.dip = crossed, Tally()
        if self._phase is _Phase.FALLING:
            self._passage.dip.add(value)
            if value < self.point.threshold:
                return []
            self._phase = _Phase.OPEN
            self._passage.fell = math.inf
            self._passage.held.merge(self._passage.dip)
        else:
            self._passage.held.add(value)
        return self._update(pts, self._passage)

    def _open(self, pts: float) -> list[Change]:
        """Open a segment, once the passage is long enough and there is evidence."""
        assert self._left is not None
        if not self._enough or pts - max(self._left, self._floor) < self.settings.least - _GRAIN:
            return []
        started = max(self._left - self.settings.lead, self._floor)
        self._passage = Passage(self._segments, started, self._climb, pts)
        self._climb = Tally()
        self._segments += 1
        self._phase = _Phase.OPEN
        return [self._change("opened", self._segment(self._passage, None), pts, None)]

    def _update(self, pts: float, passage: Passage) -> list[Change]:
        if pts - passage.updated < self.settings.every - _GRAIN:
            return []
        passage.updated = pts
        return [self._change("updated", self._segment(passage, None), pts, None)]

    def _close(self, pts: float, reason: str | None) -> list[Change]:
        """Close the segment under way, if there is one, where the statistic fell or else at the last score."""
        passage = self._passage
        if passage is None or self._last is None:
            return []
        fallen = self._phase is _Phase.FALLING
        ended = passage.fell if fallen else self._last
        self._floor = ended + self.settings.merge
        self._phase = _Phase.QUIET
        self._passage = None
        return [self._change("closed", self._segment(passage, ended), pts, None if fallen else reason)]

    def _settle(self, pts: float) -> list[Change]:
        """Bring ``state`` up to date, and say so if it changed: a mere change of reason not more than once a second."""
        if self._phase is _Phase.OPEN:
            self.state, self.reason = State.FLAGGED, None
        elif not self._enough:
            silent = self._last is not None and not self._ewma.samples
            self.state = State.INCONCLUSIVE
            self.reason = self._skipped or (NO_SCORES if silent else TOO_LITTLE)
        elif self._retuned:
            self.state, self.reason = State.INCONCLUSIVE, RETUNED
        elif not (self._phase is _Phase.PENDING and self.state is State.INCONCLUSIVE):
            self.state, self.reason = State.CLEAR, None
        if (self.state, self.reason) == self._announced:
            return []
        if self.state is self._announced[0] and pts - self._announced_at < self.settings.every - _GRAIN:
            return []
        self._announced, self._announced_at = (self.state, self.reason), pts
        return [self._change("state", None, pts, self.reason)]

    def _change(
        self,
        kind: Literal["opened", "updated", "closed", "state"],
        segment: Segment | None,
        pts: float,
        reason: str | None,
    ) -> Change:
        state = self.state if segment is None else State.FLAGGED
        return Change(kind, segment, state, reason, pts, self._value, self.point)

    def _segment(self, passage: Passage, ended: float | None) -> Segment:
        name = f"{self.session}/{self.track}/{passage.sequence}/{self.stream}"
        return Segment(
            id=str(uuid.uuid5(_NAMESPACE, name)),
            stream=self.stream,
            session=self.session,
            track=self.track,
            started=passage.started,
            ended=ended,
            state=State.FLAGGED,
            reason=None,
            mean=passage.held.total / passage.held.frames,
            peak=passage.held.peak,
            frames=passage.held.frames,
        )


def stream_state(tracks: Iterable[TrackJudge | Judged], outage: str | None = None) -> StreamJudgement:
    """The state of a stream now, or of a video, from the tracks in it.

    Flagged if any track is; inconclusive during an ``outage`` (its reason: "no frames", "frozen picture" ...),
    without a face, and where no face can be judged, for the most common reason; else clear, which speaks of the
    faces that were judged.

    >>> stream_state([]).reason
    'no face'
    """
    found = [(track.state, track.reason) for track in tracks]
    states = {state for state, _ in found}
    if outage is not None:
        return StreamJudgement(State.INCONCLUSIVE, outage)
    for state in (State.FLAGGED, State.CLEAR):
        if state in states:
            return StreamJudgement(state, None)
    reasons = Counter(reason or TOO_LITTLE for _, reason in found)
    return StreamJudgement(State.INCONCLUSIVE, reasons.most_common(1)[0][0] if reasons else NO_FACE)
