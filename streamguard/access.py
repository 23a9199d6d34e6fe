"""Who may reach the HTTP face, how often, and what may be asked of it: the settings of the doors.

They stand on the floor of the wings, so that :mod:`streamguard.config` composes them; :mod:`streamguard.server` obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamguard.ingest.allowed import AllowedSources


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """PEM files: the certificate with its chain, and its private key. Read again on SIGHUP."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one client, and all together, may take. A client is an IPv4 address or an IPv6 /64.

    Attributes:
        rate, burst: requests a second and client, and how many may come at once; probes do not count.
        failures: wrong tokens a client may show before it waits; one is forgiven every twelve seconds.
        connections, per_client: open at once.
        body: bytes of a request's body.
        idle: seconds that a connection may take to send a request's head, or its body, or stay idle.
        watchers: clients of ``/api/v1/events`` at once.
        patience: seconds that such a client's socket may take nothing before it is dropped.
    """

    rate: float = 20.0
    burst: int = 40
    failures: int = 5
    connections: int = 256
    per_client: int = 32
    body: int = 65_536
    idle: float = 15.0
    watchers: int = 16
    patience: float = 10.0

    def __post_init__(self) -> None:
        for name in ("rate", "idle", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("burst", "failures", "connections", "per_client", "body", "watchers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The HTTP face beyond its address.

    Attributes:
        tokens: the file of ``streamguard tokens``; without one every door but the probes' stays shut.
        metrics: who may read ``/metrics`` without a token: clients on this machine, nobody, or everybody.
        labels: the file that people's labels are appended to; without one none are taken.
        allow_sources: which sources may be added through the API; nothing unless it is named.
        most_streams: watched at once, those of the configuration included; more are refused.
    """

    tokens: str | None = None
    tls: TlsSettings | None = None
    metrics: Literal["loopback", "token", "open"] = "loopback"
    labels: str | None = None
    allow_sources: AllowedSources = field(default_factory=AllowedSources)
    most_streams: int = 64
    limits: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        if self.most_streams < 1:
            raise ValueError(f"most_streams is {self.most_streams}; expected 1 or more")
