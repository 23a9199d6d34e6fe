"""The head: hears reports, gives orders. Pure; :mod:`streamguard.fleet.run` is the loop round it.

The head keeps nothing on a disk. What is so, the nodes know: a head that has just come asks them, leaves to each what
it watches, and gives out what is left once nobody unheard of can have it any more. So any head may follow any other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from streamguard.config import Config, StreamConfig
from streamguard.errors import HeadReplaced
from streamguard.fleet.compatible import settings_of
from streamguard.fleet.lease import Tenancy
from streamguard.fleet.messages import Assigned, Grant, Order, Report, Settings
from streamguard.fleet.placement import Move, Placement
from streamguard.fleet.rollout import Rollout, Standing

log = logging.getLogger(__name__)

_SHOWN: Final = 500  # streams that the state lists at most
_NOBODY: Final = "no node has room for it"


@dataclass(slots=True)
class _Member:
    """What the head knows of a node. ``tenants``: streams that it may be watching, more than ``granted`` while it
    gives some back."""

    name: str
    boot: str
    tenancy: Tenancy
    report: Report | None = None
    number: int = 0
    settings: str | None = None  # the version that the last order asks for
    granted: dict[str, Assigned] = field(default_factory=dict)
    tenants: set[str] = field(default_factory=set)
    placed: bool = False
    gone: bool = False


class Head:
    """Who watches what, by placement, leases and reports. Nodes are known by a key that no two share; they have a
    name that people know them by. ``clock``: monotonic seconds. ``term``: greater than that of every head before.
    """

    def __init__(self, config: Config, *, term: int, clock: Callable[[], float] = time.monotonic) -> None:
        fleet = config.fleet
        self.term = term
        self.placement = Placement(patience=fleet.patience, settle=fleet.settle, clock=clock)
        self._fleet = fleet
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._refused: dict[str, tuple[str, str]] = {}  # key: name, why
        self._tenant: dict[str, str] = {}  # stream: key of the node that may be watching it
        self._streams: dict[str, StreamConfig] = {}
        settings = settings_of(config)
        self._settings = {settings.version: settings}
        self.rollout = Rollout(settings.version)
        self._expected: set[str] | None = None
        self._strangers = True
        self._settled = False
        self._quiet = Tenancy(fleet.lease)
        self._quiet.report(clock())
        self.want(config.streams)

    # The configuration.

    def want(self, streams: Collection[StreamConfig]) -> None:
        """These streams are to be watched from now on, and no others."""
        self._streams = {stream.name: stream for stream in streams}
        self.placement.want(self._streams)

    def propose(self, settings: Settings) -> None:
        """Every node gets these settings, one node after the other."""
        self._settings[settings.version] = settings
        self.rollout.propose(settings.version)

    @property
    def settings(self) -> Settings:
        """What every node has, or is getting."""
        return self._settings[self.rollout.wanted]

    @property
    def refused(self) -> Mapping[str, str]:
        """Nodes that can't be used, by key, with the reason."""
        return {key: why for key, (_, why) in self._refused.items()}

    @property
    def opening(self) -> bool:
        """Whether a node loads its engines and may take streams soon."""
        return any(_opening(member) for member in self._members.values())

    # Nodes come and go.

    def expect(self, keys: Iterable[str], *, strangers: bool) -> None:
        """The nodes that there are as the head comes. ``strangers``: there have been others, which may still watch
        something. Nothing is given out before the former have reported and the leases of the latter are over."""
        self._expected, self._strangers = set(keys), strangers

    def admit(self, key: str, name: str, boot: str) -> None:
        """A node that fits is there, or its process has been started again: then what it watched is free."""
        known = self._members.get(key)
        if known is not None and known.boot == boot:
            return
        if known is not None:
            self._free(known)
        self._refused.pop(key, None)
        tenancy = Tenancy(self._fleet.lease) if known is None else known.tenancy
        self._members[key] = _Member(name, boot, tenancy, placed=known is not None and known.placed)

    def refuse(self, key: str, name: str, why: str) -> None:
        """A node can't be used; it is shown, with the reason."""
        if self._refused.get(key) != (name, why):
            log.error("node '%s' is not used: %s", name, why)
        self._refused[key] = (name, why)

    def gone(self, key: str) -> None:
        """The cluster says that a node is dead. Its streams have another owner at once, which may begin when the
        lease is over: a node that can't be reached looks just like one that is dead."""
        self._refused.pop(key, None)
        member = self._members.get(key)
        if member is not None and not member.gone:
            log.error("node '%s' is lost with %d streams", member.name, len(member.granted))
            member.gone = True
            self._unplace(key, member)

    # Reports and orders.

    def report(self, key: str, report: Report) -> None:
        """A node has answered.

        Raises:
            HeadReplaced: it obeys a newer head.
        """
        if report.term > self.term:
            raise HeadReplaced(
                f"another head has taken over: node '{self._members[key].name}' obeys term {report.term}, this head's "
                f"is {self.term}. Stop one of the two."
            )
        member = self._members[key]
        if report.boot != member.boot:
            self.admit(key, member.name, report.boot)
            member = self._members[key]
        member.tenancy.report(self._clock())
        first = member.report is None
        member.report = report
        if member.gone:
            return
        if report.version is not None:
            self.placement.node(key, self._fleet.capacity or report.capacity)
            if not member.placed:
                log.warning("node '%s' is up; it takes %d streams", member.name, self.placement.capacity(key))
            member.placed = True
        if first:
            self._claim(key, member, report.held)
        if report.applied == member.number:
            for stream in member.tenants - member.granted.keys() - report.held.keys():
                self._release(member, stream)

    def turn(self) -> list[Move]:
        """Time passes: nodes that are silent lose their streams, what is free is given out, nodes change settings."""
        now = self._clock()
        for key, member in list(self._members.items()):
            if member.tenancy.over(now) and (member.report is not None or member.gone):
                self._silent(key, member)
        self.rollout.turn(
            {
                key: Standing(member.report.version, member.report.failed)
                for key, member in self._members.items()
                if member.report is not None and not member.gone
            }
        )
        return self.placement.turn() if self.settled() else []

    def settled(self) -> bool:
        """Whether streams may be given out: all are known that could be watching one."""
        if not self._settled:
            heard = {key for key, member in self._members.items() if member.report is not None and member.placed}
            known = heard | self._refused.keys()
            all_known = self._expected is not None and bool(heard) and self._expected <= known
            self._settled = self._quiet.over(self._clock()) or (all_known and not self._strangers)
        return self._settled

    def order(self, key: str) -> Order:
        """What a node shall do now."""
        member = self._members[key]
        report, version = member.report, self.rollout.version(key)
        wanted = self._granted(key, member) if report is not None else {}
        if report is not None and (wanted != member.granted or version != member.settings or member.number == 0):
            member.number += 1
            self._grant(key, member, wanted)
            member.settings = version
        heard = None if report is None or member.gone else report.stamp
        order = Order(self.term, member.number, member.boot, heard, self._fleet.lease)
        has = None if report is None else report.version
        idle = has == version or self._failed(member, version)
        settings = None if idle else self._settings.get(version, self.settings)
        if report is not None and report.applied == member.number and report.term == self.term and settings is None:
            return order
        streams = None if report is None else dict(member.granted)
        return Order(self.term, member.number, member.boot, heard, self._fleet.lease, streams, settings)

    # How it is done.

    def _granted(self, key: str, member: _Member) -> dict[str, Assigned]:
        """What a node may watch now: what it should, as far as nobody else may still be at it."""
        wanted = {}
        for stream in self.placement.streams(key):
            if self._tenant.get(stream, key) == key:
                old = member.granted.get(stream)
                grant = Grant(self.term, member.number + 1) if old is None else old.grant
                wanted[stream] = Assigned(self._streams[stream], grant)
        return wanted

    def _grant(self, key: str, member: _Member, wanted: Mapping[str, Assigned]) -> None:
        member.granted = dict(wanted)
        for stream in wanted:
            self._tenant[stream] = key
            member.tenants.add(stream)

    def _claim(self, key: str, member: _Member, held: Mapping[str, Grant]) -> None:
        """What a node watches when the head first hears of it: it keeps it, unless another node has it."""
        for stream, grant in held.items():
            if self._tenant.setdefault(stream, key) != key:
                continue
            member.tenants.add(stream)
            if member.placed and self.placement.claim(stream, key):
                member.granted[stream] = Assigned(self._streams[stream], grant)

    def _failed(self, member: _Member, version: str) -> bool:
        return member.report is not None and member.report.failed == version

    def _silent(self, key: str, member: _Member) -> None:
        """The lease of a node is over: it watches nothing."""
        if member.placed and not member.gone:
            log.error("node '%s' has been silent for its lease: its streams go elsewhere", member.name)
        self._unplace(key, member)
        self._free(member)
        if member.gone:
            del self._members[key]
        else:
            self._members[key] = _Member(member.name, member.boot, member.tenancy, number=member.number)

    def _unplace(self, key: str, member: _Member) -> None:
        member.placed = False
        self.placement.lost(key)

    def _free(self, member: _Member) -> None:
        for stream in list(member.tenants):
            self._release(member, stream)

    def _release(self, member: _Member, stream: str) -> None:
        member.tenants.discard(stream)
        self._tenant.pop(stream, None)

    # What is shown.

    def state(self, node: str | None = None) -> dict[str, Any]:
        """The fleet as `/api/v1/fleet` shows it; ``node``: list the streams of that one alone."""
        members = [self._shown(key, member) for key, member in self._members.items()]
        refused = [
            {"name": name, "state": "refused", "problem": why, **_NOTHING} for name, why in self._refused.values()
        ]
        unplaced = self.placement.waiting() if self.settled() else []
        return {
            "term": self.term,
            "settled": self.settled(),
            "lease": self._fleet.lease,
            "settings": {"version": self.rollout.wanted, "refused": self.rollout.refused},
            "nodes": sorted([*members, *refused], key=lambda each: str(each["name"])),
            "moves": {reason: self.placement.moves[reason] for reason in ("new", "lost", "over")},
            "total": len(self._streams),
            "running": sum(len(member.report.held) for member in self._members.values() if member.report),
            "unplaced": len(unplaced),
            "streams": [self._stream(name) for name in self._listed(node)],
        }

    def _listed(self, node: str | None) -> list[str]:
        if node is None:
            names: Iterable[str] = self._streams
        else:
            keys = [key for key, member in self._members.items() if member.name == node]
            names = [stream for key in keys for stream in self.placement.streams(key)]
        return list(names)[:_SHOWN]

    def _stream(self, name: str) -> dict[str, Any]:
        key = self.placement.owner(name)
        if key is None:
            return {"name": name, "node": None, "state": None, "reason": _NOBODY if self.settled() else "not given yet"}
        member = self._members[key]
        running = member.report is not None and name in member.report.held
        state = member.report.states.get(name) if member.report is not None and running else None
        at = self._members.get(self._tenant.get(name, key))
        waits = f"node '{at.name}' may still watch it" if at is not None and at is not member else "it is being started"
        return {"name": name, "node": member.name, "state": state, "reason": None if running else waits}

    def _shown(self, key: str, member: _Member) -> dict[str, Any]:
        report = member.report
        shown: dict[str, Any] = {"name": member.name, "state": _state(member), "problem": None, **_NOTHING}
        if report is not None:
            shown |= {
                "problem": report.problem,
                "capacity": self._fleet.capacity or report.capacity,
                "streams": len(self.placement.streams(key)),
                "running": len(report.held),
                "cpu": round(report.cpu, 2),
                "overload": report.overload,
                "pending": report.pending,
                "settings": report.version,
                "url": report.url,
            }
        return shown


_NOTHING: Final[dict[str, Any]] = {
    "capacity": 0,
    "streams": 0,
    "running": 0,
    "cpu": 0.0,
    "overload": 0,
    "pending": 0,
    "settings": None,
    "url": None,
}


def _opening(member: _Member) -> bool:
    """It has not begun yet, and nothing says that it won't; one that has fallen silent is none of these."""
    if member.placed or member.gone:
        return False
    return member.number == 0 if member.report is None else member.report.problem is None


def _state(member: _Member) -> str:
    if member.gone:
        return "lost"
    if member.report is None:
        return "silent"
    return "up" if member.placed else "opening"
