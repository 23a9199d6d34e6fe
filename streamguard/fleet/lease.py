"""The lease that lets a node watch its streams, on both sides. No clock is compared with another machine's.

A node stamps each report with its own clock. The head sends the newest stamp that it has back, and the node's lease
runs from that stamp: from a moment at which the report had not even left. So the head, which counts from when the
report came, always believes in a lease for longer than the node does, however late a message is, and a stream that
it gives to another node is watched by nobody else. (Gray and Cheriton, Leases, SOSP 1989.)
"""

from __future__ import annotations

import math
from typing import Final

MARGIN: Final = 2.0
"""Seconds beyond the lease that the head waits: a node looks at its lease four times a second, and clocks drift."""
_DRIFT: Final = 0.01  # share of the lease; clocks of computers drift by less than a thousandth


class Lease:
    """A node's side. ``now`` and ``stamp`` on its own monotonic clock, seconds.

    >>> lease = Lease()
    >>> lease.heard(stamp=100.0, length=20.0)
    >>> lease.holds(119.0), lease.holds(120.0)
    (True, False)
    """

    def __init__(self) -> None:
        self.until = -math.inf

    def heard(self, stamp: float, length: float) -> None:
        """The head has the report of ``stamp``."""
        self.until = max(self.until, stamp + length)

    def holds(self, now: float) -> bool:
        """Whether streams may be watched."""
        return now < self.until

    def end(self) -> None:
        """Give it up."""
        self.until = -math.inf


class Tenancy:
    """The head's side, of one node: until when it may watch what it was given. ``now`` on the head's monotonic clock.

    >>> tenancy = Tenancy(length=20.0)
    >>> tenancy.report(now=50.0)
    >>> tenancy.over(72.0), tenancy.over(72.3)
    (False, True)
    """

    def __init__(self, length: float) -> None:
        self._length = length
        self._until = -math.inf

    def report(self, now: float) -> None:
        """A report of the node has come."""
        self._until = max(self._until, now + self._length * (1 + _DRIFT) + MARGIN)

    def over(self, now: float) -> bool:
        """Whether the node surely watches nothing any more."""
        return now >= self._until

    def end(self) -> None:
        """Its process is known to have ended."""
        self._until = -math.inf
