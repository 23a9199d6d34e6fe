"""The login in front of the mock cluster, by a client that knows the brokers of the world: librdkafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
import trustme

from tests.brokers import Kafka, require
from tests.servers.login import Login, guarded
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.servers

USER, PASSWORD = "guard", "made up"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    require(Kafka)
    with Kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def login() -> Login:
    return Login({USER: PASSWORD})


@pytest.fixture
def door(server: Kafka, login: Login, tmp_path: Path) -> Iterator[Proxy]:
    """The cluster behind TLS and a login."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with guarded(server, authority, login) as proxy:
        yield proxy


def produced(door: Proxy, tmp_path: Path, **more: str) -> tuple[list[str], list[str]]:
    """What became of one record, and the errors that the client told."""
    told: list[str] = []
    results: list[str] = []
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{door.port}",
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(tmp_path / "ca.pem"),
            "sasl.username": USER,
            "sasl.password": PASSWORD,
            "enable.idempotence": "true",
            "message.timeout.ms": "60000",
            "error_cb": lambda error: told.append(error.str()),
            **more,
        }
    )
    producer.produce("door", b"x", on_delivery=lambda error, _: results.append(str(error)))
    while not results and not any("Authentication failed" in text for text in told):
        producer.poll(0.2)
    producer.purge()
    producer.flush(10)
    return results, told


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_who_knows_the_password_is_let_in(door: Proxy, login: Login, tmp_path: Path, mechanism: str) -> None:
    results, told = produced(door, tmp_path, **{"sasl.mechanism": mechanism})
    assert (results, told) == (["None"], [])
    assert set(login.let_in) == {mechanism}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
@pytest.mark.parametrize("wrong", ["sasl.password", "sasl.username"])
def test_who_does_not_is_told(door: Proxy, login: Login, tmp_path: Path, mechanism: str, wrong: str) -> None:
    _, told = produced(door, tmp_path, **{"sasl.mechanism": mechanism, wrong: "somebody"})
    assert "SASL authentication error: Authentication failed" in told[0]
    assert login.let_in == []
