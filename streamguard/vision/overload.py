"""What is done less of when the machine can't keep up with its live streams, and when that is taken back.

Not an estimate of the load but two facts decide: due frames were lost, and frames waited for most of the time. Only
both together are an overload; a sender that delivers in bursts loses frames on an idle machine. The steps, each of
which costs less of the judgement than the next:

1. ``classification rate``: undecided tracks get no more than the usual scores, then every track the lowest rate;
2. ``detection rate``: a search in 1.2, 1.5, then 2 times as many frames, then just enough for the lowest rate;
3. ``drops``: nothing is left to do less of, so due frames are lost. No latency is built up: the newest frame wins.

A step that gives up searches is dearer than a few that get lost, so it is taken only where at least half as much is
lost as it gives up. A step is taken back after a while without a loss. Where that proves too early, the next attempt
waits twice as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from streamguard.vision.sampler import FULL, Mode, Need, Pace

CLASSIFICATION: Final = "classification rate"
DETECTION: Final = "detection rate"
DROPS: Final = "drops"

_USUAL: Final = Need.USUAL.value
LADDER: Final = (
    FULL,
    Pace(CLASSIFICATION, ceiling=_USUAL),
    Pace(CLASSIFICATION, lowest=True),
    Pace(DETECTION, lowest=True, spread=1.2),
    Pace(DETECTION, lowest=True, spread=1.5),
    Pace(DETECTION, lowest=True, spread=2.0),
    Pace(DETECTION, lowest=True, spread=math.inf),
    Pace(DROPS, lowest=True, spread=math.inf),
)
"""In the order in which they are taken."""


def ladder(mode: Mode) -> tuple[Pace, ...]:
    """The steps of a mode: ``every-frame`` never looks less often."""
    return (FULL, Pace(DROPS)) if mode == "every-frame" else LADDER


@dataclass(frozen=True, slots=True)
class OverloadSettings:
    """When there is too much, and for how long there has to be less. Times in seconds.

    ``window``: what is looked at as one. ``lost``: share of due frames that may be lost in it; ``least``: fewer losses
    than this are an accident. ``price``: as the share of what a step gives up, the least loss that it is taken for.
    ``waited``: share of the time in which frames may wait. ``calm``: time without an overload after which a step is
    taken back; after failures up to ``longest``.
    """

    window: float = 2.0
    lost: float = 0.01
    least: int = 2
    price: float = 0.5
    waited: float = 0.5
    calm: float = 10.0
    longest: float = 300.0


class Overload:
    """The policy, pure: told of every turn and every due frame, by the inference thread; anybody may read ``pace``.

    ``now`` on a monotonic clock, in seconds, never going back.

    >>> overload = Overload(LADDER)
    >>> for turn in range(30):
    ...     overload.turn(turn / 10, waiting=True)
    ...     overload.frame(lost=1)
    >>> overload.pace.step
    'classification rate'
    """

    def __init__(self, steps: tuple[Pace, ...] = LADDER, settings: OverloadSettings | None = None) -> None:
        self.settings = settings or OverloadSettings()
        self.steps = steps
        self.level = 0
        self._now: float | None = None
        self._waiting = False
        self._calm = self.settings.calm
        self._quiet_since = -math.inf
        self._eased = -math.inf  # when the last step was taken back
        self._begin(0.0)

    @property
    def pace(self) -> Pace:
        """What holds now."""
        return self.steps[self.level]

    def frame(self, lost: int = 0) -> None:
        """A due frame of a live stream was taken, or given up (then it is in ``lost``) with those it overtook."""
        self._frames += 1
        self._lost += lost

    def turn(self, now: float, *, waiting: bool) -> Pace | None:
        """Time passes; ``waiting``: from now on a due frame of a live stream waits. The pace, if it changes."""
        if self._now is None:
            self._begin(now)
            self._quiet_since = now
        elif self._waiting:
            self._waited += now - self._now
        self._now, self._waiting = now, waiting
        if now - self._since < self.settings.window:
            return None
        before = self.level
        self._judge(now)
        self._begin(now)
        return self.pace if self.level != before else None

    def _begin(self, now: float) -> None:
        self._since = now
        self._frames = self._lost = 0
        self._waited = 0.0

    def _judge(self, now: float) -> None:
        limits = self.settings
        whole = self._frames + self._lost
        losing = self._lost >= limits.least and self._lost > limits.lost * whole
        if losing and self._waited > limits.waited * (now - self._since):
            self._quiet_since = now
            if self.level + 1 < len(self.steps) and self._lost >= self._least_loss * whole:
                if now - self._eased <= self._calm:
                    self._calm = min(2 * self._calm, limits.longest)
                self._eased = -math.inf
                self.level += 1
        elif self.level and now - self._quiet_since >= self._calm:
            if self._eased > -math.inf:  # the step before was taken back in time
                self._calm = limits.calm
            self._eased = self._quiet_since = now
            self.level -= 1

    @property
    def _least_loss(self) -> float:
        """Share of due frames that has to be lost before the next step is worth its price."""
        now, then = self.pace.spread, self.steps[self.level + 1].spread
        given_up = 1 - now / min(then, 2 * now) if then > now else 0.0  # of no bound it is the frame rate that decides
        return self.settings.price * given_up
