"""What a node may do, by its orders and its lease. Pure; :class:`~streamguard.fleet.agent.Agent` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streamguard.fleet.lease import Lease
from streamguard.fleet.messages import Assigned, Order, Settings


class Duty(NamedTuple):
    """What a node shall watch at this moment, nothing without a lease; and which order says so."""

    streams: Mapping[str, Assigned]
    leased: bool
    order: tuple[int, int]


class Tenant:
    """The newest order of the newest head. ``boot``: the node's process; ``now``: its monotonic clock, seconds."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.lease = Lease()
        self.term = 0
        self.applied = 0
        self.settings: Settings | None = None
        self._number = 0
        self._wanted: Mapping[str, Assigned] = {}

    def take(self, order: Order) -> None:
        """An order has come. One of an older head, for another process, or with an older number changes nothing."""
        if order.term < self.term or order.boot != self.boot:
            return
        if order.term > self.term:
            self.term, self._number, self.applied = order.term, 0, 0
        if order.heard is not None:
            self.lease.heard(order.heard, order.lease)
        if order.settings is not None:
            self.settings = order.settings
        if order.streams is not None and order.number > self._number:
            self._number, self._wanted = order.number, dict(order.streams)

    def duty(self, now: float) -> Duty:
        """What shall be watched."""
        leased = self.lease.holds(now)
        return Duty(self._wanted if leased else {}, leased, (self.term, self._number))

    def done(self, duty: Duty) -> None:
        """That much is being watched, and nothing else."""
        if duty.leased and duty.order[0] == self.term:
            self.applied = duty.order[1]
