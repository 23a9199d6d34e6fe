"""TLS of each broker: taken with the authority given, refused without it, and refused for another name."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import trustme

from streamguard.delivery.sinks import SinkError, SinkSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.delivery.sinks.nats import NatsSettings
from streamguard.delivery.sinks.postgres import PostgresSettings
from streamguard.delivery.sinks.redis import RedisSettings
from tests.brokers import Broker, Mosquitto, Nats, Postgres, Redis, require
from tests.delivery.sinks.made import delivered, made_events, run

pytestmark = pytest.mark.servers

SERVERS: list[type[Broker]] = [Mosquitto, Nats, Redis, Postgres]


def settings_of(server: Broker, host: str) -> SinkSettings:
    port = server.port
    if isinstance(server, Mosquitto):
        return MqttSettings("far", "mqtt", host, port, tls=True)
    if isinstance(server, Nats):
        return NatsSettings("far", "nats", (f"tls://{host}:{port}",), timeout=5.0)
    if isinstance(server, Redis):
        return RedisSettings("far", "redis", f"rediss://{host}:{port}")
    return PostgresSettings("far", "postgres", host, Postgres.database, Postgres.user, port, tls=True)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__.lower())
def test_the_certificate_and_the_name_are_verified(tmp_path: Path, kind: type[Broker]) -> None:
    require(kind)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(paths[0])
    certificate.private_key_pem.write_to_path(paths[1])
    secrets = {"password": Postgres.password} if kind is Postgres else {}
    known = secrets | {"ca": authority.cert_pem.bytes().decode()}

    async def main(server: Broker) -> None:
        sink = settings_of(server, "127.0.0.1").make(known)
        assert await delivered(sink, made_events(5)) == 0
        await sink.close()
        for host, given in (("127.0.0.1", secrets), ("localhost", known)):
            stranger = settings_of(server, host).make(given)
            with pytest.raises(SinkError, match=r"(?i)certificate"):
                await stranger.open()
            await stranger.close()

    server = kind(tmp_path / "server")
    server.tls = paths
    with server:
        run(lambda: main(server))
    gc.collect()
