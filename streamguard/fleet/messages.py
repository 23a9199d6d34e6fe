"""What head and nodes say to each other. Each turn is one :class:`Order` and the :class:`Report` that answers it.

Orders state what shall be, not what shall change, so that one that is lost, late or doubled does no harm: a node obeys
the newest alone. While nothing changes they are a few bytes: ``streams`` is None then, and a report's ``applied`` says
which order its node has carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamguard.config import Config, StreamConfig


class Grant(NamedTuple):
    """The right to watch a stream. Of two, the greater is the newer: ``term`` is the head's, ``number`` its order's."""

    term: int
    number: int


class Assigned(NamedTuple):
    """A stream that a node shall watch, and by what right."""

    stream: StreamConfig
    grant: Grant


class Settings(NamedTuple):
    """The configuration of a node but for its streams; ``version`` tells one from another."""

    version: str
    config: Config


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node is, told once, before it is given anything.

    ``boot`` is another one after each start of its process; ``engines``: SHA-256 of both models, as the configuration
    that it was asked about names them; ``problems``: why that configuration can't be followed there.
    """

    boot: str
    version: str
    engines: Mapping[str, str]
    cores: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """What the head wants of a node.

    ``heard``: the ``stamp`` of the last report that the head has from this ``boot``; the node's lease runs from there
    (:class:`~streamguard.fleet.lease.Lease`). ``streams`` None: as in order ``number``, which it has carried out, or,
    with ``number`` 0, as they are: the head has just come. ``settings`` None: no others than it has.
    """

    term: int
    number: int
    boot: str
    heard: float | None
    lease: float
    streams: Mapping[str, Assigned] | None = None
    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a node stands.

    ``stamp``: its own monotonic clock, when this was made. ``term``: of the newest head that it knows; one that is
    greater than the order's means that the order was refused. ``held``: what it watches now, all of it.
    ``version``: of the settings in use, None while there are none; ``failed``: of those that it could not use, with
    ``problem``. ``capacity``: streams that it takes by its own measure.
    """

    boot: str
    stamp: float
    term: int
    applied: int
    held: Mapping[str, Grant]
    version: str | None
    failed: str | None = None
    problem: str | None = None
    capacity: int = 1
    cpu: float = 0.0
    overload: int = 0
    pending: int = 0
    url: str | None = None
    states: Mapping[str, str] = field(default_factory=dict)
