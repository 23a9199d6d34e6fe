"""Kafka: key, headers, order within a partition; what is too large, and who is not let in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiokafka
import pytest
import trustme

from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.kafka import KafkaSettings
from streamguard.errors import UsageError
from tests.brokers import Kafka, require
from tests.delivery.sinks.made import delivered, made_events, names, run
from tests.servers.login import MECHANISMS, Login, guarded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"servers": ()}, "servers is empty"),
        ({"servers": ("kafka",)}, "'kafka' is no broker; expected HOST:PORT"),
        ({"servers": ("kafka://a:9092",)}, "is no broker"),
        ({"servers": ("a:0",)}, "is no broker"),
        ({"topic": "a b"}, "topic is no name of a topic"),
        ({"topic": ""}, "topic is no name of a topic"),
        ({"topic": "a" * 250}, "topic is no name of a topic"),
        ({"ca_file": "a.pem"}, "no use without tls"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KafkaSettings(**{"name": "lake", "type": "kafka", "servers": ("a:9092",), **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(("user", "secrets"), [("guard", {}), (None, {"password": "made up"})])
def test_user_and_password_belong_together(user: str | None, secrets: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="user and password belong together"):
        KafkaSettings("lake", "kafka", ("127.0.0.1:9092",), user=user).make(secrets)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    require(Kafka)
    with Kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


def settings(server: Kafka, topic: str, **more: object) -> KafkaSettings:
    return KafkaSettings("lake", "kafka", (f"127.0.0.1:{server.port}",), topic, **more)  # type: ignore[arg-type]


async def records(server: Kafka, topic: str, count: int) -> list[Any]:
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=f"127.0.0.1:{server.port}", auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    found = [await consumer.getone() for _ in range(count)]
    await consumer.stop()
    return found


@pytest.mark.servers
def test_key_headers_and_partition(server: Kafka) -> None:
    events = made_events(20)

    async def main() -> list[Any]:
        sink = settings(server, "plain").make({})
        await delivered(sink, events)
        await sink.close()
        return await records(server, "plain", 20)

    found = run(main)
    for stream in ("door", "cam.2"):
        mine = [record for record in found if record.key == stream.encode()]
        due = [event for event in events if event["data"]["stream"] == stream]
        assert len({record.partition for record in mine}) == 1
        assert [json.loads(record.value) for record in mine] == due
        assert [dict(record.headers)["id"].decode() for record in mine] == names(due)
        assert {dict(record.headers)["content-type"] for record in mine} == {b"application/cloudevents+json"}


@pytest.mark.servers
def test_an_event_that_is_too_large_is_told_apart(server: Kafka) -> None:
    events = made_events(5)
    events[2]["data"]["reason"] = "x" * 2_000_000

    async def main() -> tuple[SinkRejected, list[Any]]:
        sink = settings(server, "large").make({})
        await sink.open()
        with pytest.raises(SinkRejected) as caught:
            await sink.deliver(events)
        await sink.deliver(events[3:])
        await sink.close()
        return caught.value, await records(server, "large", 4)

    error, found = run(main)
    assert error.taken == 2
    assert f"refuses event '{events[2]['id']}'" in str(error)
    arrived = {dict(record.headers)["id"].decode() for record in found}
    assert arrived == set(names(events)) - {names(events)[2]}


@pytest.mark.servers
def test_a_broker_that_knows_no_login_is_said_and_the_password_is_not_told(server: Kafka) -> None:
    async def main() -> str:
        sink = settings(server, "secret", user="guard", timeout=2.0).make({"password": "another made up one"})
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    message = run(main)
    assert "sink 'lake': Kafka at 127.0.0.1" in message
    assert "made up" not in message


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.servers
def test_the_certificate_and_the_name_are_verified(server: Kafka, authority: trustme.CA) -> None:
    known = {"ca": authority.cert_pem.bytes().decode()}

    async def main(port: int) -> None:
        sink = KafkaSettings("lake", "kafka", (f"127.0.0.1:{port}",), "tls", tls=True).make(known)
        assert await delivered(sink, made_events(5)) == 0
        await sink.close()
        for host, given in (("127.0.0.1", {}), ("localhost", known)):
            stranger = KafkaSettings("lake", "kafka", (f"{host}:{port}",), "tls", tls=True, timeout=5.0).make(given)
            with pytest.raises(SinkError, match=r"(?i)certificate"):
                await stranger.open()
            await stranger.close()

    with guarded(server, authority) as door:
        run(lambda: main(door.port))


@pytest.mark.servers
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_who_logs_in_by_tls_delivers_and_a_wrong_password_is_said_and_not_told(
    server: Kafka, authority: trustme.CA, mechanism: str
) -> None:
    events = made_events(20)
    login = Login({"guard": "made up"})
    known = {"ca": authority.cert_pem.bytes().decode()}

    async def main(port: int) -> str:
        far = KafkaSettings(
            "lake", "kafka", (f"127.0.0.1:{port}",), mechanism, user="guard", mechanism=mechanism, tls=True
        )
        sink = far.make(known | {"password": "made up"})
        assert await delivered(sink, events) == 0
        await sink.close()
        assert set(login.let_in) == {mechanism}
        login.let_in.clear()
        stranger = far.make(known | {"password": "another one, made up"})
        with pytest.raises(SinkError) as caught:
            await stranger.open()
        await stranger.close()
        return str(caught.value)

    with guarded(server, authority, login) as door:
        message = run(lambda: main(door.port))
    assert login.let_in == []
    assert "can't be used, if its user and password are right: " in message
    assert "Authentication failed" in message
    assert "made up" not in message
    found = run(lambda: records(server, mechanism, 20))
    assert {dict(record.headers)["id"].decode() for record in found} == set(names(events))
