"""A real server behind its doors, and a client of it, for tests."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from streamguard.access import ApiSettings, WebRtcSettings
from streamguard.delivery.events import EngineRef, Event, EventContext, EventFactory, Timeline
from streamguard.frames import Segment, State
from streamguard.metrics import Metrics
from streamguard.server.api import Api
from streamguard.server.app import Address, Health, Server
from streamguard.server.auth import Role, TokenFile
from streamguard.server.evidence import EvidenceFolder
from streamguard.server.whip import Calls

LOCAL = Address("127.0.0.1", 0)
WELL = Health(lambda: (), lambda: (), lambda: ())


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The name of a problem, once its form is checked (RFC 9457)."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        told = self.json
        assert told["status"] == self.status
        assert told["detail"]
        return str(told["type"]).removeprefix("urn:streamguard:problem:")


@dataclass
class Served:
    """A running server with a token of each role."""

    server: Server
    api: Api
    metrics: Metrics
    viewer: str
    operator: str
    sender: str = ""
    trust: ssl.SSLContext | None = None

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        address = self.server.address
        if self.trust is not None:
            return http.client.HTTPSConnection("localhost", address.port, timeout=60, context=self.trust)
        return http.client.HTTPConnection(*address, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a new connection; ``body`` goes as JSON, bytes as they are."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        connection = self.connect()
        try:
            connection.request(method, path, body=data, headers=sent | (headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def refusals(self, reason: str) -> float:
        """How many were counted."""
        return self.metrics.registry.get_sample_value("streamguard_http_refused_total", {"reason": reason}) or 0.0


@contextmanager
def serving(
    folder: Path,
    *,
    guard: Callable[[], Any] = lambda: None,
    evidence: Path | None = None,
    desk: Any = None,
    trust: ssl.SSLContext | None = None,
    webrtc: WebRtcSettings | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """A server with ``settings`` of :class:`ApiSettings`, its tokens in ``folder``, as long as the block lasts."""
    tokens = TokenFile(folder / "tokens.json")
    viewer, operator = tokens.add("anna", Role.VIEWER), tokens.add("otto", Role.OPERATOR)
    sender = tokens.add("cara", Role.SENDER)
    set_to = ApiSettings(tokens=str(folder / "tokens.json"), **settings)
    metrics = Metrics(CollectorRegistry())
    api = Api(set_to, guard, None if evidence is None else EvidenceFolder(evidence), desk)
    calls = None if webrtc is None else Calls(webrtc, (), api, guard, metrics)
    with Server(metrics, WELL, LOCAL, set_to, api, calls) as server:
        yield Served(server, api, metrics, viewer, operator, sender, trust)


FACTORY = EventFactory(EventContext("studio", "r1", "default", 0.0, (EngineRef("base", "0" * 64, "int8"),)))


def flagged(number: int, stream: str = "door", ended: float | None = None) -> Event:
    """An event of a made segment: opened, or closed if ``ended`` is given."""
    segment = Segment(f"s{number}", stream, 1, number, 1.0, ended, State.FLAGGED, None, 1.5, 2.5, 30)
    clock = Timeline("file", lambda pts: 1_700_000_000.0 + pts)
    return FACTORY.segment("opened" if ended is None else "closed", segment, ended or 2.0, clock)


def until(condition: Callable[[], object], limit: float = 60.0) -> None:
    """Wait for something to be so, looking seldom enough that no limit on requests is met."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit} s"
        time.sleep(0.1)
