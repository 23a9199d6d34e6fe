"""From tracks to what is said of a whole stream, video or image. No data is never ``clear``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.segments import TOO_LITTLE, Judged
from streamguard.frames import State, sigmoid

NO_FACE: Final = "no face"


class Verdict(NamedTuple):
    """The state of a file, the reason if it is inconclusive, the highest score 0..1 if there is one."""

    state: State
    reason: str | None
    score: float | None


def stream_state(tracks: Iterable[tuple[State, str | None]], outage: str | None = None) -> tuple[State, str | None]:
    """State and reason of a stream now, from those of the tracks in it.

    Flagged if any track is; inconclusive during an ``outage`` (its reason: "no frames", "frozen picture" ...),
    without a face, and where no face can be judged, for the most common reason; else clear, which speaks of the
    faces that were judged.

    >>> stream_state([])[1]
    'no face'
    """
    found = list(tracks)
    states = {state for state, _ in found}
    if outage is not None:
        return State.INCONCLUSIVE, outage
    for state in (State.FLAGGED, State.CLEAR):
        if state in states:
            return state, None
    reasons = Counter(reason or TOO_LITTLE for _, reason in found)
    return State.INCONCLUSIVE, reasons.most_common(1)[0][0] if reasons else NO_FACE


def verdict(tracks: Sequence[Judged]) -> Verdict:
    """What is said of a video, from all its tracks. The score is that of the highest statistic of any track."""
    highest = [track.highest for track in tracks if track.highest is not None]
    state, reason = stream_state((track.state, track.reason) for track in tracks)
    return Verdict(state, reason, sigmoid(max(highest)) if highest else None)


def image_verdict(scores: Sequence[float], point: OperatingPoint, reason: str = NO_FACE) -> Verdict:
    """What is said of a still, from the calibrated logits of its faces.

    There is no time in it: the highest single score is held against the threshold. Without a score it is
    inconclusive, for ``reason``.

    >>> image_verdict([-2.0], OperatingPoint("default", 1.0, "")).state
    <State.CLEAR: 'clear'>
    """
    if not scores:
        return Verdict(State.INCONCLUSIVE, reason, None)
    highest = max(scores)
    return Verdict(State.FLAGGED if highest >= point.threshold else State.CLEAR, None, sigmoid(highest))
