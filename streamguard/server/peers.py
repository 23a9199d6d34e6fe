"""WebRTC sessions under way: how many there may be, and whether their peers live. Pure; driven by calls and a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from streamguard.access import WebRtcSettings
from streamguard.ingest.webrtc import WebRtcSource
from streamguard.server.auth import Token
from streamguard.server.limits import Buckets
from streamguard.server.problems import Problem
from streamguard.server.sdp import Offer
from streamguard.server.webrtc import Peer, Traffic

Kind = Literal["whip", "whep"]

GIVES_WAY: Final = 2.0
"""Seconds of silence after which a sender's session gives its name up to a new one of the same token."""

_COME_AGAIN: Final = 5  # seconds


class Vitals:
    """Whether a peer lives, by what it sends.

    A peer that only watches is silent with good reason while nothing is sent to it.
    """

    def __init__(self, kind: Kind, settings: WebRtcSettings, now: float) -> None:
        self._kind = kind
        self._settings = settings
        self._opened = self._heard = now
        self._traffic = Traffic(0, 0, 0)

    def silent_for(self, now: float) -> float:
        """Seconds since the peer was heard of."""
        return now - self._heard

    def look(self, now: float, state: str, traffic: Traffic) -> str | None:
        """Why the peer counts as gone, or None: it lives. To be asked about once a second."""
        before, self._traffic = self._traffic, traffic
        idle = self._kind == "whep" and traffic.sent == before.sent and state == "connected"
        if traffic.received > before.received or idle:
            self._heard = now
        if state in ("failed", "closed"):
            return state
        if state != "connected" or (self._kind == "whip" and not traffic.received):
            return "never connected" if now - self._opened >= self._settings.connecting else None
        return "silent" if now - self._heard >= self._settings.silence else None


@dataclass(slots=True, eq=False)
class PeerSession:
    """One peer's. ``client`` is whom it comes from, ``source`` what its stream is watched by, if it sends one."""

    id: str
    kind: Kind
    stream: str
    client: str
    token: Token
    etag: str
    offer: Offer
    vitals: Vitals
    peer: Peer | None = None
    source: WebRtcSource | None = None

    @property
    def path(self) -> str:
        """Where it is changed and ended."""
        return f"/{self.kind}/{self.stream}/{self.id}"


class PeerSessions:
    """The book of sessions."""

    def __init__(self, settings: WebRtcSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._openings = Buckets(settings.openings / 60, settings.openings, clock)
        self._open: dict[str, PeerSession] = {}

    def __iter__(self) -> Iterator[PeerSession]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, client: str) -> None:
        """Whether a client may open another session; the try counts.

        Raises:
            Problem: it may not, with when to come again.
        """
        if wait := self._openings.take(client):
            raise _later(429, "openings", "too many sessions were opened", math.ceil(wait))
        self._check_room(client)

    def _check_room(self, client: str) -> None:
        if sum(session.client == client for session in self._open.values()) >= self._settings.per_client:
            raise _later(429, "per-client", f"{self._settings.per_client} sessions of this address are open")
        if len(self._open) >= self._settings.most:
            raise _later(503, "most", f"{self._settings.most} sessions are open")

    def add(self, session: PeerSession) -> None:
        """A session begins.

        Raises:
            Problem: others have taken the last place since it was admitted.
        """
        self._check_room(session.client)
        self._open[session.id] = session

    def get(self, name: str) -> PeerSession | None:
        """The session of that id."""
        return self._open.get(name)

    def sender(self, stream: str) -> PeerSession | None:
        """The session that sends a stream."""
        return next((s for s in self._open.values() if s.kind == "whip" and s.stream == stream), None)

    def remove(self, session: PeerSession) -> bool:
        """A session is over. Whether it was under way."""
        return self._open.pop(session.id, None) is not None

    def count(self, kind: Kind) -> int:
        """How many of a kind."""
        return sum(session.kind == kind for session in self._open.values())


def _later(status: int, name: str, why: str, seconds: int = _COME_AGAIN) -> Problem:
    return Problem(status, name, f"{why}; come again later", {"Retry-After": str(seconds)})
