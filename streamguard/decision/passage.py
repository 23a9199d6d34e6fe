"""A passage of the statistic above its low level: what becomes a segment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streamguard.decision.calibration import OperatingPoint


def low_level(threshold: float) -> float:
    """The level under which a track is no longer flagged: half the threshold, at least 0.25 under it.

    The margin takes over for thresholds under 0.5, where halving would leave no hysteresis, or under 0, where it
    would raise the level.
    """
    return min(threshold / 2, threshold - 0.25)


def lifted(level: float, rise: float | None, point: OperatingPoint) -> float:
    """The statistic on one scale: the level, or, where the level rose, what is as far from ``threshold`` as the rise
    is from its own; so that one threshold, and one hysteresis, serve both.

    A rise of less than half of what the operating point asks for is no evidence, and changes nothing.
    """
    if rise is None or point.rise is None or rise < point.rise / 2:
        return level
    return max(level, point.threshold + rise - point.rise)


@dataclass(slots=True)
class Tally:
    """Mean and peak of the statistic over a run of scores."""

    frames: int = 0
    total: float = 0.0
    peak: float = -math.inf

    def add(self, value: float) -> None:
        self.merge(Tally(1, value, value))

    def merge(self, other: Tally) -> None:
        self.frames += other.frames
        self.total += other.total
        self.peak = max(self.peak, other.peak)


@dataclass(slots=True)
class Passage:
    """The segment under way: its start and scores; since a fall, the time of it and the scores after it."""

    sequence: int
    started: float
    held: Tally
    updated: float
    fell: float = math.inf
    dip: Tally = field(default_factory=Tally)


def crossing(level: float, earlier: tuple[float, float] | None, later: tuple[float, float]) -> float:
    """When the statistic ran through ``level`` between ``earlier`` and ``later``; the later time if it did not."""
    if earlier is None or (earlier[1] < level) == (later[1] < level):
        return later[0]
    return earlier[0] + (level - earlier[1]) / (later[1] - earlier[1]) * (later[0] - earlier[0])
