"""When to try a sink again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Seconds: the first ceiling, the longest, and the longest that a far side may ask for."""

    first: float = 0.5
    longest: float = 60.0
    asked: float = 900.0


class Retry:
    """Delays after failures: drawn from 0 to a ceiling that doubles ("full jitter", Brooker, AWS Architecture Blog,
    2015), so that many senders do not come back in step. What the far side asks for (Retry-After, RFC 9110) is the
    least.

    >>> retry = Retry(random.Random(1))
    >>> [round(retry.failed(), 2) for _ in range(4)]
    [0.07, 0.85, 1.53, 1.02]
    >>> round(retry.failed(retry_after=30.0), 1)
    34.0
    """

    def __init__(self, rng: random.Random, settings: RetrySettings | None = None) -> None:
        self.settings = settings or RetrySettings()
        self._rng = rng
        self._failures = 0

    def failed(self, retry_after: float | None = None) -> float:
        """Seconds to wait after an attempt that failed."""
        settings = self.settings
        ceiling = min(settings.longest, settings.first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        delay = self._rng.uniform(0.0, ceiling)
        if retry_after is None:
            return delay
        return min(max(retry_after, 0.0), settings.asked) + delay

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self._failures = 0
