"""A fleet in one process and in no time: the real head and the real tenants, a network that delays, cuts off and
delivers late, clocks that differ. After each step it is checked that no stream is watched twice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count

from streamguard.config import Config, StreamConfig
from streamguard.errors import HeadReplaced
from streamguard.fleet.head import Head
from streamguard.fleet.messages import Grant, Order, Report
from streamguard.fleet.tenant import Tenant
from streamguard.ownership import FleetSettings

STEP = 0.25


def config(streams: int = 9, **fleet: object) -> Config:
    """A configuration with ``streams`` streams s0, s1 ..."""
    return Config(
        streams=tuple(StreamConfig(name=f"s{number}", uri=f"rtsp://camera/{number}") for number in range(streams)),
        fleet=FleetSettings(**fleet),
    )


@dataclass
class Node:
    """A node as its agent would be, with a clock of its own."""

    name: str
    boots: count
    offset: float = 0.0
    drift: float = 1.0
    capacity: int = 6
    cut: bool = False  # no message comes or goes
    hung: bool = False  # its process stands still
    tenant: Tenant = field(init=False)
    held: dict[str, Grant] = field(default_factory=dict)
    version: str | None = None

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Its process begins, with nothing."""
        self.tenant = Tenant(f"{self.name}.{next(self.boots)}")
        self.held, self.version = {}, None

    def clock(self, now: float) -> float:
        return self.offset + now * self.drift

    def act(self, now: float) -> None:
        """What the agent's thread does four times a second."""
        duty = self.tenant.duty(self.clock(now))
        if self.tenant.settings is not None:
            self.version = self.tenant.settings.version
            self.held = {name: assigned.grant for name, assigned in duty.streams.items()}
            self.tenant.done(duty)

    def turn(self, order: Order, now: float) -> Report:
        """As the agent answers."""
        self.tenant.take(order)
        return Report(
            boot=self.tenant.boot,
            stamp=self.clock(now),
            term=self.tenant.term,
            applied=self.tenant.applied,
            held=dict(self.held),
            version=self.version,
            capacity=self.capacity,
        )


@dataclass
class World:
    """Time passes by :meth:`run`."""

    settings: Config
    seed: int = 0
    slow: float = 0.5  # seconds that a message takes at most
    now: float = 1000.0
    nodes: dict[str, Node] = field(default_factory=dict)
    messages: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.boots = count()
        self.terms = count(1)
        self.flying: list[tuple[float, str, object]] = []
        self.new_head()

    def new_head(self, *, strangers: bool = True) -> None:
        """The head comes, or comes again, and knows nothing."""
        self.head = Head(self.settings, term=next(self.terms), clock=lambda: self.now)
        self.calls: set[str] = set()
        self.due = self.now
        self.flying = [flight for flight in self.flying if isinstance(flight[2], Order)]  # nobody waits for answers
        self.head.expect(self.nodes, strangers=strangers)
        for name, node in self.nodes.items():
            self.head.admit(name, name, node.tenant.boot)

    def add(self, name: str, **how: float) -> Node:
        """A node joins."""
        offset = self.random.uniform(-1e6, 1e6)
        node = self.nodes[name] = Node(name, self.boots, offset=offset, drift=self.random.uniform(0.995, 1.005), **how)
        self.head.admit(name, name, node.tenant.boot)
        return node

    def reboot(self, name: str) -> None:
        """A node's process is killed and begins anew."""
        self.nodes[name].boot()
        self.calls.discard(name)
        self.head.admit(name, name, self.nodes[name].tenant.boot)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            self._deliver()
            for node in self.nodes.values():
                if not node.hung:
                    node.act(self.now)
            self.check()
            if self.now >= self.due:
                self.due += self.settings.fleet.beat
                self.head.turn()
                for name in self.nodes:
                    if name not in self.calls:
                        self.calls.add(name)
                        self._send(name, self.head.order(name))

    def _send(self, name: str, what: object) -> None:
        self.messages += 1
        self.flying.append((self.now + self.random.uniform(0, self.slow), name, what))

    def _deliver(self) -> None:
        """What has arrived; what comes to a line that is cut waits there, as TCP lets it."""
        ready = [flight for flight in self.flying if flight[0] <= self.now and self._passes(flight[1])]
        for flight in sorted(ready, key=lambda flight: flight[0]):
            self.flying.remove(flight)
            _, name, what = flight
            if isinstance(what, Order):
                self._send(name, self.nodes[name].turn(what, self.now))
            elif isinstance(what, Report) and name in self.calls:
                self.calls.discard(name)
                try:
                    self.head.report(name, what)
                except HeadReplaced:
                    continue  # an answer to an older head's order

    def _passes(self, name: str) -> bool:
        return not (self.nodes[name].cut or self.nodes[name].hung)

    def watched(self) -> dict[str, list[str]]:
        """Stream: nodes that watch it."""
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for stream in node.held:
                found.setdefault(stream, []).append(node.name)
        return found

    def check(self) -> None:
        """No stream is watched twice. A process that stands still watches nothing: no frame passes through it."""
        for stream, nodes in self.watched().items():
            active = [name for name in nodes if not self.nodes[name].hung]
            assert len(active) <= 1, f"at {self.now}: {stream} is watched by {active}"
