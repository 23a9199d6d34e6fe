"""What is said of a whole file. No data is never ``clear``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.segments import NO_FACE, Judged, stream_state
from streamguard.frames import State, sigmoid


class Verdict(NamedTuple):
    """The state of a file, the reason if it is inconclusive, the highest score 0..1 if there is one."""

    state: State
    reason: str | None
    score: float | None


def verdict(tracks: Sequence[Judged]) -> Verdict:
    """What is said of a video, from all its tracks. The score is that of the highest statistic of any track."""
    peaks = [track.peak for track in tracks if track.peak is not None]
    state, reason = stream_state(tracks)
    return Verdict(state, reason, sigmoid(max(peaks)) if peaks else None)


def image_verdict(scores: Sequence[float], point: OperatingPoint, reason: str = NO_FACE) -> Verdict:
    """What is said of a still, from the calibrated logits of its faces.

    There is no time in it: the highest single score is held against the threshold. Without a score it is
    inconclusive, for ``reason``.

    >>> image_verdict([-2.0], OperatingPoint("default", 1.0, "")).state
    <State.CLEAR: 'clear'>
    """
    if not scores:
        return Verdict(State.INCONCLUSIVE, reason, None)
    peak = max(scores)
    return Verdict(State.FLAGGED if peak >= point.threshold else State.CLEAR, None, sigmoid(peak))
