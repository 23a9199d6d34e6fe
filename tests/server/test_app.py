"""The HTTP face: health, metrics and refusals, over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from streamguard.access import ApiSettings
from streamguard.errors import UsageError
from streamguard.metrics import Metrics
from streamguard.server.app import Address, Health, Server
from streamguard.server.auth import Role, TokenFile

LOCAL = Address("127.0.0.1", 0)


class Probes:
    """What the probes answer, changed by the test while the server runs."""

    def __init__(self) -> None:
        self.alive: list[str] = []
        self.ready: list[str] = []
        self.started: list[str] = []

    @property
    def health(self) -> Health:
        return Health(lambda: self.alive, lambda: self.ready, lambda: self.started)


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def server(metrics: Metrics, probes: Probes) -> Iterator[Server]:
    with Server(metrics, probes.health, LOCAL) as running:
        yield running


def ask(
    server: Server, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_healthy(server: Server, path: str) -> None:
    response, body = ask(server, path)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {"status": "ok", "reasons": []}


@pytest.mark.parametrize(("path", "probe"), [("/livez", "alive"), ("/readyz", "ready"), ("/startupz", "started")])
def test_each_probe_fails_alone_and_recovers(server: Server, probes: Probes, path: str, probe: str) -> None:
    setattr(probes, probe, ["inference has not beaten for 12 s"])
    answers = {each: ask(server, each) for each in ("/livez", "/readyz", "/startupz")}
    assert {each: answer.status for each, (answer, _) in answers.items() if answer.status != 200} == {path: 503}
    assert json.loads(answers[path][1]) == {"status": "failing", "reasons": ["inference has not beaten for 12 s"]}
    setattr(probes, probe, [])
    assert ask(server, path)[0].status == 200


def test_metrics_parse(server: Server, metrics: Metrics) -> None:
    metrics.frames_decoded.labels("door").inc(3)
    metrics.stage_duration.labels("detect").observe(0.004)
    response, body = ask(server, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse_text(body.decode())}
    assert families["streamguard_frames_decoded"].type == "counter"
    samples = {(s.name, tuple(s.labels.items())): s.value for f in families.values() for s in f.samples}
    assert samples["streamguard_frames_decoded_total", (("stream", "door"),)] == 3
    assert samples["streamguard_stage_duration_seconds_count", (("stage", "detect"),)] == 1


def test_openmetrics_when_asked_for(server: Server, metrics: Metrics) -> None:
    metrics.frames_decoded.labels("door").inc()
    response, body = ask(server, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert "streamguard_frames_decoded" in names


def test_metrics_are_of_the_injected_registry_alone(server: Server) -> None:
    other = Metrics(CollectorRegistry())
    other.frames_decoded.labels("elsewhere").inc()
    assert b"elsewhere" not in ask(server, "/metrics")[1]


def test_unknown_path(server: Server) -> None:
    response, body = ask(server, "/nothing")
    assert response.status == 404
    assert response.headers["Content-Type"].startswith("application/problem+json")
    assert json.loads(body)["detail"] == "nothing is served at /nothing"


@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_wrong_method(server: Server, path: str) -> None:
    response, body = ask(server, path, "POST")
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"
    assert json.loads(body)["detail"] == f"POST is not served at {path}; use GET, HEAD"


def test_head(server: Server) -> None:
    response, body = ask(server, "/livez", "HEAD")
    assert (response.status, body) == (200, b"")


def test_a_taken_port_is_named(server: Server, metrics: Metrics, probes: Probes) -> None:
    with pytest.raises(UsageError, match=rf"{server.address}: the port is taken .* --listen") as caught:
        Server(metrics, probes.health, server.address).start()
    assert caught.value.exit_code == 2


def test_a_foreign_address_is_named(metrics: Metrics, probes: Probes, tmp_path: Path) -> None:
    documentation_only = Address("192.0.2.7", 0)
    TokenFile(tmp_path / "tokens.json").add("anna", Role.VIEWER)
    settings = ApiSettings(tokens=str(tmp_path / "tokens.json"))
    with pytest.raises(UsageError, match=r"192\.0\.2\.7:0: the host is no address of this machine"):
        Server(metrics, probes.health, documentation_only, settings).start()


def test_stop_frees_the_port_and_the_thread(metrics: Metrics, probes: Probes) -> None:
    with Server(metrics, probes.health, LOCAL) as server:
        address = server.address
        assert "http" in {thread.name for thread in threading.enumerate()}
    assert "http" not in {thread.name for thread in threading.enumerate()}
    with socket.create_server(address) as again:
        assert again.getsockname()[1] == address.port
    server.stop()


def test_stop_does_not_wait_for_an_idle_client(metrics: Metrics, probes: Probes) -> None:
    server = Server(metrics, probes.health, LOCAL)
    server.start()
    idle = http.client.HTTPConnection(*server.address, timeout=10)
    idle.request("GET", "/livez")
    assert idle.getresponse().read() == b'{"status": "ok", "reasons": []}'
    assert idle.sock is not None
    server.stop()
    assert idle.sock.recv(1) == b""
    idle.close()


@pytest.mark.parametrize(
    ("address", "text"), [(Address("127.0.0.1", 80), "127.0.0.1:80"), (Address("::1", 8080), "[::1]:8080")]
)
def test_address_as_text(address: Address, text: str) -> None:
    assert str(address) == text
