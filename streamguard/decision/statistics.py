"""The running evidence of a track, as a function of elapsed time and not of how often it was looked at."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_GRAIN: Final = 1e-6  # seconds: times that differ by less are the same
SPREAD: Final = 0.2  # calibrated logits: the standard deviation of an ordinary real track's scores
PRIOR: Final = 3.0  # seconds of a track for which that is taken to be its own
CALMEST: Final = 0.1  # a still picture hardly wavers at all, and moves like any other once it moves
OUTLYING: Final = 2.5  # spreads
RECENT: Final = 256  # scores of one track that wait to become its earlier level; more than any rate allows in that time


class Ewma:
    """Exponentially weighted mean of a logit over time, exact for irregular sampling.

    The statistic follows ``dM/dt = (z(t) - M) / tau``, with ``z`` running straight from each score to the next, so
    that 2 and 25 scores a second of the same evidence give the same trajectory. Each score is clipped to
    ``+-clip`` first: no frame has more than a bounded influence.

    It starts at ``start``, 0 = no evidence for either side, and the first score alone moves nothing: evidence
    needs elapsed time. Over a gap longer than ``hold`` nothing is known; the gap adds nothing, and the statistic starts
    afresh, because what was seen before it may be another picture altogether.

    >>> m = Ewma()
    >>> [round(m.update(t, 3.0), 2) for t in (0.0, 1.0, 2.0)]
    [0.0, 1.18, 1.9]
    """

    def __init__(self, tau: float = 2.0, clip: float = 4.0, *, hold: float = 2.0, start: float = 0.0) -> None:
        self.tau = tau
        self.clip = clip
        self.hold = hold
        self.start = start
        self.restart()

    @property
    def value(self) -> float:
        """The statistic, a logit."""
        return self._value

    @property
    def coverage(self) -> float:
        """Seconds of evidence since the start or the last gap."""
        return self._coverage

    @property
    def samples(self) -> int:
        """Scores since the start or the last gap."""
        return self._samples

    def restart(self) -> None:
        """Forget everything."""
        self._value = self.start
        self._coverage = 0.0
        self._samples = 0
        self._pts = self._logit = 0.0

    def update(self, pts: float, logit: float) -> float:
        """Take a score at ``pts`` (seconds of stream time) and return the statistic.

        A second score at the same time, or one from before, replaces the last and adds no time.

        Raises:
            ValueError: ``pts`` or ``logit`` is not finite.
        """
        if not (math.isfinite(pts) and math.isfinite(logit)):
            raise ValueError(f"a score of {logit} at {pts} s; expected finite numbers")
        logit = _within(logit, self.clip)
        if self._samples and pts - self._pts > self.hold:
            self.restart()
        if self._samples and pts <= self._pts + _GRAIN:
            self._logit = logit
            return self._value
        if self._samples:
            elapsed = pts - self._pts
            fading = math.exp(-elapsed / self.tau)
            share = -math.expm1(-elapsed / self.tau) * self.tau / elapsed
            # Three weights that add up to 1: the past, the last score and this one, on a straight line between them.
            self._value = fading * self._value + (share - fading) * self._logit + (1 - share) * logit
            self._coverage += elapsed
        self._pts, self._logit = pts, logit
        self._samples += 1
        return self._value


class Rise:
    """How far the evidence of the last seconds lies above the track's own earlier level, for a track of its unrest.

    Faces differ in what a network says of them, real ones by more than many a forgery adds; within one track it says
    much the same all along. So a passage that is forged stands out from the rest of its track before it stands out
    from other people's faces. Tracks differ in their unrest too: small, noisy and badly lit faces make a network waver.
    So the rise is studentised: its unit is the logit of a track whose scores spread by :data:`SPREAD`; that of a track
    that wavers twice as much counts half.

    The earlier level is the mean of the logits older than ``lag``, fading over ``memory``, both in seconds, and known
    once it has ``least`` seconds to stand on. The spread is the standard deviation of the same logits, with
    :data:`SPREAD` for the first :data:`PRIOR` seconds of it, and not under :data:`CALMEST`. A deviation counts for
    :data:`OUTLYING` spreads at most (Huber, 1964): what rose must not widen the scale that it is measured by. A change
    that stays becomes the track's level in time: a lasting alarm needs evidence of its own. As in :class:`Ewma`, scores
    are clipped, and a gap longer than ``hold`` ends all memory.

    >>> rise, level = Rise(), Ewma()
    >>> told = [rise.update(t, z, level.update(t, z)) for t, z in [(t / 5, -2.0 + 3.0 * (t > 50)) for t in range(61)]]
    >>> told[10] is None, round(told[50], 2), round(told[60], 2)
    (True, 0.02, 3.61)
    """

    def __init__(
        self, memory: float = 30.0, lag: float = 2.0, least: float = 3.0, *, clip: float = 4.0, hold: float = 2.0
    ) -> None:
        self.lag = lag
        self.least = least
        self.hold = hold
        self._earlier = Ewma(memory, clip, hold=math.inf)
        self._squares = Ewma(memory, math.inf, hold=math.inf)  # of deviations from the earlier level
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def restart(self) -> None:
        """Forget everything."""
        self._earlier.restart()
        self._squares.restart()
        self._recent.clear()

    @property
    def earlier(self) -> float | None:
        """The track's earlier level, a logit; None while too little is known of it."""
        known = self._earlier.coverage
        if known < self.least - _GRAIN:
            return None
        return self._earlier.value / self._share

    @property
    def spread(self) -> float:
        """The standard deviation of the earlier logits, drawn towards :data:`SPREAD` while little is known of them."""
        known = self._share * self._earlier.tau  # seconds, as the fading leaves them
        squares = self._squares.value * self._earlier.tau
        return max(CALMEST, math.sqrt((SPREAD**2 * PRIOR + squares) / (PRIOR + known)))

    @property
    def _share(self) -> float:
        """What the earlier scores weigh in their means; these began at 0, which was no evidence."""
        return -math.expm1(-self._earlier.coverage / self._earlier.tau)

    def update(self, pts: float, logit: float, level: float) -> float | None:
        """Take a score at ``pts`` and say how far ``level``, the statistic with it, is above the earlier level.

        In logits of a track of ordinary spread; None while the earlier level is not known.
        """
        if self._recent and pts - self._recent[-1][0] > self.hold:
            self.restart()
        if self._recent and pts <= self._recent[-1][0] + _GRAIN:
            self._recent.pop()
        elif len(self._recent) == RECENT:
            self._age()
        self._recent.append((pts, logit))
        while self._recent[0][0] <= pts - self.lag:
            self._age()
        earlier = self.earlier
        return None if earlier is None else (level - earlier) * SPREAD / self.spread

    def _age(self) -> None:
        """The oldest score that waits becomes part of the earlier level."""
        pts, logit = self._recent.popleft()
        most = OUTLYING * self.spread
        self._earlier.update(pts, logit)
        share = self._share
        mean = self._earlier.value / share if share > 0 else logit
        deviation = _within(_within(logit, self._earlier.clip) - mean, most)
        self._squares.update(pts, deviation * deviation)


def _within(value: float, limit: float) -> float:
    """The nearest value from -``limit`` to ``limit``."""
    return min(max(value, -limit), limit)
