"""Who may reach the HTTP face, how often, what may be asked of it, and how WebRTC peers are met: settings.

They stand on the floor of the wings, so that :mod:`streamguard.config` composes them; :mod:`streamguard.server` obeys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Literal

from streamguard.ingest.allowed import AllowedSources

_ORIGIN: Final = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#@]+")
_ICE_URL: Final = re.compile(r"(stun|turns?):[^\s?@]+(\?transport=(udp|tcp))?")


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
        cors_origins: pages of which origins may call ``/whip``, ``/whep`` and ``/api/v1/events``; ``*`` is all of them.
    """

    tokens: str | None = None
    tls: TlsSettings | None = None
    metrics: Literal["loopback", "token", "open"] = "loopback"
    labels: str | None = None
    allow_sources: AllowedSources = field(default_factory=AllowedSources)
    most_streams: int = 64
    cors_origins: tuple[str, ...] = ()
    limits: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        if self.most_streams < 1:
            raise ValueError(f"most_streams is {self.most_streams}; expected 1 or more")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors_origins: '{origin}' is no origin; expected https://HOST, without a path, or *")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server (RFC 7064, RFC 7065).

    Attributes:
        urls: ``turn:HOST:PORT?transport=udp``, ``turns:``, ``stun:``.
        username, credential_file, credential_env: of TURN; the password lies in a file or an environment variable.
    """

    urls: tuple[str, ...]
    username: str | None = None
    credential_file: str | None = None
    credential_env: str | None = None

    def __post_init__(self) -> None:
        for url in self.urls:
            if not _ICE_URL.fullmatch(url):
                raise ValueError(f"urls: '{url}' is none of stun:HOST:PORT, turn:HOST:PORT, turns:HOST:PORT")
        if not self.urls:
            raise ValueError("urls is empty; expected at least one")


@dataclass(frozen=True, slots=True)
class BitrateSettings:
    """What a sender's browser is asked for, in kbit/s: at least, at the start, at most."""

    least: int = 1200
    start: int = 2500
    most: int = 4000

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.start <= self.most:
            raise ValueError(f"least {self.least}, start {self.start}, most {self.most}; expected them to rise from 1")


@dataclass(frozen=True, slots=True)
class WebRtcSettings:
    """How WebRTC peers are met: those who send (WHIP) and those who watch (WHEP). Times in seconds.

    Attributes:
        addresses: of this machine, which are offered to peers; all but the loopback if none is named.
        ice_servers: asked for further addresses, and told to peers; none by default: nothing leaves this network.
        relay_only: peers are met through TURN alone.
        most, per_client: peers at once, in all and of one client; a client is an IPv4 address or an IPv6 /64.
        openings: a minute and client, that many of which may come at once.
        connecting: until media have to come; a peer that never connects is gone then.
        silence: without a packet, after which a peer is gone.
        late: by which pictures may come behind the quickest; a session that stays behind is ended, and begins anew.
        record: whether evidence is kept of what peers send, where it is kept at all.
        bitrate: what senders' browsers are asked for.
    """

    addresses: tuple[str, ...] = ()
    ice_servers: tuple[IceServer, ...] = ()
    relay_only: bool = False
    most: int = 32
    per_client: int = 8
    openings: int = 30
    connecting: float = 15.0
    silence: float = 10.0
    late: float = 2.0
    record: bool = False
    bitrate: BitrateSettings = field(default_factory=BitrateSettings)

    def __post_init__(self) -> None:
        for address in self.addresses:
            try:
                ip_address(address)
            except ValueError:
                raise ValueError(f"addresses: '{address}' is no IP address") from None
        for name in ("most", "per_client", "openings"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("connecting", "silence", "late"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.relay_only and not any(url.startswith("turn") for server in self.ice_servers for url in server.urls):
            raise ValueError("relay_only is true; expected a turn: server in ice_servers")
