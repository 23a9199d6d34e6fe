"""When to try a live source again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Reason = Literal["ended", "lost", "stalled", "denied", "changed", "unusable"]
"""Why a connection is over: a label of few values.

``ended``: the sender closed it without a word; ``lost``: an error, or no answer; ``stalled``: silence; ``denied``:
wrong credentials; ``changed``: another picture size, to be decoded afresh; ``unusable``: no video, or a size or
codec that is not worked on.
"""


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Delays in seconds.

    ``first``, ``longest``: of those between attempts; a source that is back is found within the longest. ``denied``:
    after refused credentials. ``good``: after how long a connection counts as a good one, so that delays start again
    from the first.
    """

    first: float = 0.25
    longest: float = 3.0
    denied: float = 60.0
    good: float = 10.0


class Backoff:
    """Delays between attempts: doubled each time, and drawn from the upper half, so that cameras behind one
    switch do not come back in step.

    Wrong credentials get a long delay at once: cameras lock accounts that are tried too often.

    >>> backoff = Backoff(random.Random(1))
    >>> [round(backoff.delay("lost"), 2) for _ in range(4)]
    [0.14, 0.46, 0.88, 1.26]
    """

    def __init__(self, rng: random.Random, settings: BackoffSettings | None = None) -> None:
        self.settings = settings or BackoffSettings()
        self._rng = rng
        self._failures = 0

    def delay(self, reason: Reason, lasted: float = 0.0) -> float:
        """Seconds to wait after a connection that is over; ``lasted``: seconds for which it gave frames."""
        settings = self.settings
        if lasted >= settings.good:
            self._failures = 0
        if reason == "changed" and lasted >= settings.first:
            return 0.0
        if reason == "denied":
            return settings.denied
        ceiling = min(settings.longest, settings.first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._jitter(ceiling)

    def _jitter(self, ceiling: float) -> float:
        return ceiling * self._rng.uniform(0.5, 1.0)
