"""How many machines share the streams: the settings of the fleet.

They stand on the floor of the wings, so that :mod:`streamguard.config` composes them; :mod:`streamguard.fleet` obeys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What `streamguard fleet` goes by; other verbs leave it alone. Times in seconds.

    Attributes:
        address: of the Ray cluster, HOST:PORT; `auto` finds the one that this machine is part of.
        beat: from one order to a node to the next.
        lease: a node that has not heard from the head for so long stops its streams; nobody else gets them earlier.
        capacity: streams that a node takes; without it each node measures its own.
        load: share of a node's cores that its streams may take, where capacity is measured.
        patience: a node has to be over its capacity for so long before it gives streams away.
        settle: a stream that has moved stays for so long, unless its node is lost.
        node_listen: where each node serves its own health, metrics and API, HOST:PORT; none by default.
    """

    address: str = "auto"
    beat: float = 1.0
    lease: float = 20.0
    capacity: int | None = None
    load: float = 0.8
    patience: float = 10.0
    settle: float = 60.0
    node_listen: str | None = None

    def __post_init__(self) -> None:
        for name in ("beat", "patience", "settle"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}; expected more than 0 seconds")
        if not self.lease >= 3 * self.beat:
            raise ValueError(f"lease is {self.lease}; expected at least three times beat, {3 * self.beat:g}")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity is {self.capacity}; expected 1 or more")
        if not 0 < self.load <= 1:
            raise ValueError(f"load is {self.load}; expected more than 0, up to 1")
