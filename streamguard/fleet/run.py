"""The head's loop: orders out, reports in, once a beat. What decides is :class:`~streamguard.fleet.head.Head`."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from streamguard.config import Config, load_config
from streamguard.errors import FleetMissing, NodeForeign, StreamGuardError
from streamguard.fleet.cluster import Answer, Call, Cluster, Machine, Remote
from streamguard.fleet.compatible import check_fleet, check_node, engines_of, problems_here, settings_of
from streamguard.fleet.head import Head
from streamguard.fleet.messages import Hello, Report, Settings
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

_ASK: Final = 60.0  # seconds that a node has to say whether it could follow new settings
_AGAIN: Final = 30.0  # seconds until a node that could not be used is asked again
_NAMED: Final = 5  # streams that one line of the log names


@dataclass(slots=True)
class _Link:
    """The way to a machine: its actor, and the call to it that is under way."""

    machine: Machine
    remote: Remote
    call: Call | None = None
    greeting: bool = True  # the call is a `hello`
    again: float = 0.0


class FleetRun:
    """Runs a fleet on a cluster until it is told to stop. :meth:`run` belongs to one thread; :meth:`reload`,
    :meth:`state` and :meth:`stop` may come from any. The nodes go on when it ends, for as long as their leases last.

    Raises:
        UsageError: a configuration that no fleet can follow.
    """

    def __init__(self, config: Config, cluster: Cluster, metrics: Metrics, path: Path | None = None) -> None:
        check_fleet(config)
        if found := problems_here(config.model_copy(update={"sinks": ()})):
            raise FleetMissing(found[0])
        self._config = config
        self._cluster = cluster
        self._metrics = metrics
        self._path = path
        self._engines = engines_of(config)
        self._lock = threading.RLock()
        # The day's clock makes terms of heads that never heard of each other differ, and the later one the greater.
        self._head = Head(config, term=time.time_ns() // 1_000_000)
        self._links: dict[str, _Link] = {}
        self._stopped = threading.Event()
        self._unplaced: tuple[str, ...] = ()
        self._turn = threading.Lock()  # one change of the configuration at a time

    # From any thread.

    def state(self, node: str | None = None) -> Mapping[str, Any]:
        """The fleet as `/api/v1/fleet` shows it."""
        with self._lock:
            return self._head.state(node)

    @property
    def ready(self) -> bool:
        """Whether streams are given out."""
        return self._head.settled()

    def stop(self) -> None:
        """Make :meth:`run` return."""
        self._stopped.set()

    # The loop.

    def run(self) -> None:
        """Until :meth:`stop`.

        Raises:
            FleetMissing: no node can be used. HeadReplaced: the nodes obey a newer head.
        """
        beat = self._config.fleet.beat
        machines = self._cluster.machines
        self._head.expect(
            (machine.key for machine in machines if machine.alive),
            strangers=any(not machine.alive for machine in machines),
        )
        while not self._stopped.is_set():
            began = time.monotonic()
            with self._lock:
                self._look()
                self._send()
                calls = {key: link.call for key, link in self._links.items() if link.call is not None}
            answers = self._cluster.gather(calls, beat)
            with self._lock:
                for key, answer in answers.items():
                    self._take(key, answer)
                self._decide()
            self._stopped.wait(max(0.0, began + beat - time.monotonic()))

    def _look(self) -> None:
        """Which machines there are."""
        names: Counter[str] = Counter()
        for machine in self._cluster.machines:
            if not machine.alive:
                if self._links.pop(machine.key, None) is not None:
                    self._head.gone(machine.key)
                continue
            names[machine.name] += 1
            if names[machine.name] > 1:
                self._head.refuse(
                    machine.key, machine.name, "another node has that name. Give it one: ray start --node-name NAME."
                )
            elif machine.key not in self._links and (remote := self._cluster.host(machine)) is not None:
                self._links[machine.key] = _Link(machine, remote)

    def _send(self) -> None:
        now = time.monotonic()
        for key, link in self._links.items():
            if link.call is not None or now < link.again:
                continue
            if link.greeting:
                link.call = link.remote.hello(self._head.settings)
            else:
                link.call = link.remote.turn(self._head.order(key))

    def _take(self, key: str, answer: Answer) -> None:
        link = self._links.get(key)
        if link is None:
            return
        link.call = None
        if answer.error is not None:
            log.info("node '%s' did not answer: %s", link.machine.name, answer.error)
            link.greeting = True  # its process may be another one
        elif isinstance(answer.value, Hello):
            self._greeted(key, link, answer.value)
        elif isinstance(answer.value, Report):
            self._head.report(key, answer.value)

    def _greeted(self, key: str, link: _Link, hello: Hello) -> None:
        name = link.machine.name
        try:
            check_node(name, hello, self._engines)
        except NodeForeign as error:
            self._head.refuse(key, name, str(error))
            link.again = time.monotonic() + _AGAIN
        else:
            link.greeting = False
            self._head.admit(key, name, hello.boot)

    def _decide(self) -> None:
        for move in self._head.turn():
            self._metrics.fleet_moves.labels(move.reason).inc()
        self._complain()
        shown = self._head.state()
        states = Counter(node["state"] for node in shown["nodes"])
        for state in ("up", "opening", "silent", "lost", "refused"):
            self._metrics.fleet_nodes.labels(state).set(states[state])
        running, unplaced = shown["running"], shown["unplaced"]
        self._metrics.fleet_streams.labels("running").set(running)
        self._metrics.fleet_streams.labels("unplaced").set(unplaced)
        self._metrics.fleet_streams.labels("starting").set(max(0, shown["total"] - running - unplaced))

    def _complain(self) -> None:
        """Streams without a node are named once nobody is on the way any more; a fleet without a node ends."""
        asked = any(link.greeting and key not in self._head.refused for key, link in self._links.items())
        if asked or self._head.opening or not self._head.settled():
            return
        placement = self._head.placement
        waiting = tuple(placement.waiting())
        if waiting and waiting != self._unplaced:
            takes = sum(placement.capacity(node) for node in placement.nodes)
            names = ", ".join(f"'{name}'" for name in waiting[:_NAMED]) + (", ..." if len(waiting) > _NAMED else "")
            log.error(
                "%d streams have no node: %s. %d nodes take %d streams in all. Add a node, or raise fleet.capacity.",
                len(waiting),
                names,
                len(placement.nodes),
                takes,
            )
        self._unplaced = waiting
        refused = self._head.refused
        if not placement.nodes and refused and len(refused) == len(self._links):
            raise FleetMissing("no node can be used. " + " ".join(sorted(refused.values())))

    # A new configuration.

    def reload(self) -> None:
        """Read the file again. A mistake in it, or a node that could not follow it, changes nothing and is logged."""
        if self._path is None:
            return
        with self._turn:
            try:
                after = load_config(self._path)
                check_fleet(after)
                engines = engines_of(after)
                settings = settings_of(after)
                self._agree(settings, engines)
            except StreamGuardError as error:
                log.error("configuration not reloaded, no node was changed: %s", error)
                return
            with self._lock:
                self._engines = engines
                if settings.version != self._head.settings.version:
                    self._head.propose(settings)
                    log.warning("settings %s go through the nodes, one at a time", settings.version)
                self._head.want(after.streams)
                fixed = [
                    f"fleet.{field.name}"
                    for field in fields(after.fleet)
                    if field.name not in ("load", "node_listen")
                    and getattr(after.fleet, field.name) != getattr(self._config.fleet, field.name)
                ]
                self._config = after.model_copy(update={"fleet": self._config.fleet})
            if fixed:
                log.warning("changed, and taken up at the next start alone: %s", ", ".join(fixed))
            log.warning("configuration reloaded: %d streams", len(after.streams))

    def _agree(self, settings: Settings, engines: Mapping[str, str]) -> None:
        """Ask every node whether it could follow these settings.

        Raises:
            NodeForeign: one could not, or does not answer.
        """
        with self._lock:
            if settings.version == self._head.settings.version:
                return
            links = {key: link for key, link in self._links.items() if not link.greeting}
            calls = {key: link.remote.hello(settings) for key, link in links.items()}
        answers = self._cluster.gather(calls, _ASK) if calls else {}
        for key, link in links.items():
            name, answer = link.machine.name, answers.get(key)
            if answer is None or answer.error is not None:
                raise NodeForeign(f"node '{name}' does not say whether it could follow it. Try again when it answers.")
            check_node(name, answer.value, engines)
