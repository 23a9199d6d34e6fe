"""NATS JetStream: subjects, identities, the stream that is made or left as it is; a server that refuses."""

from __future__ import annotations

from collections.abc import Iterator

import nats
import pytest
from nats.js.api import StorageType, StreamConfig, StreamInfo

from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.nats import DUPLICATE_WINDOW, NatsSettings
from streamguard.errors import UsageError
from tests.brokers import Nats, require
from tests.delivery.sinks.made import made_events, names, run

LOGIN = ("guard", "made-up")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"servers": ()}, "servers is empty"),
        ({"servers": ("http://a",)}, "expected nats://HOST, or tls://HOST"),
        ({"servers": ("nats://bob:hunter2@a",)}, "holds a user or a password"),
        ({"jetstream": "a.b"}, "jetstream is no name"),
        ({"jetstream": ""}, "jetstream is no name"),
        ({"subject": "a.>"}, "subject is no name"),
        ({"subject": "a b"}, "subject is no name"),
        ({"timeout": -1.0}, "timeout is -1"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NatsSettings(**{"name": "bus", "type": "nats", "servers": ("nats://a",), **settings})  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_a_password_needs_a_user() -> None:
    with pytest.raises(UsageError, match="a password, and no user"):
        NatsSettings("bus", "nats", ("nats://127.0.0.1",)).make({"password": "made up"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    require(Nats)
    with Nats(tmp_path_factory.mktemp("nats"), LOGIN) as broker:
        yield broker


def settings(server: Nats, **more: object) -> NatsSettings:
    address = (f"nats://127.0.0.1:{server.port}",)
    return NatsSettings("bus", "nats", address, user=LOGIN[0], timeout=10.0, **more)  # type: ignore[arg-type]


async def told(server: Nats, stream: str) -> tuple[StreamInfo, list[tuple[str, dict[str, str]]]]:
    """The stream, and subject and headers of what is in it."""
    client = await nats.connect(f"nats://127.0.0.1:{server.port}", user=LOGIN[0], password=LOGIN[1])
    jetstream = client.jetstream()
    info = await jetstream.stream_info(stream)
    found = [await jetstream.get_msg(stream, seq) for seq in range(1, info.state.last_seq + 1)]
    await client.close()
    return info, [(message.subject or "", message.headers or {}) for message in found]


@pytest.mark.servers
def test_subjects_and_identities_and_no_doubles(server: Nats) -> None:
    events = made_events(4)

    async def main() -> tuple[StreamInfo, list[tuple[str, dict[str, str]]]]:
        sink = settings(server).make({"password": LOGIN[1]})
        await sink.open()
        await sink.deliver(events)
        await sink.deliver(events)
        await sink.close()
        return await told(server, "STREAMGUARD")

    info, found = run(main)
    assert [subject for subject, _ in found] == ["streamguard.door", "streamguard.cam%2E2"] * 2
    assert [headers["Nats-Msg-Id"] for _, headers in found] == names(events)
    assert {headers["content-type"] for _, headers in found} == {"application/cloudevents+json"}
    assert info.config.storage == StorageType.FILE
    assert info.config.duplicate_window == DUPLICATE_WINDOW


@pytest.mark.servers
def test_a_stream_that_is_there_stays_as_it_is(server: Nats) -> None:
    async def main() -> StreamInfo:
        client = await nats.connect(f"nats://127.0.0.1:{server.port}", user=LOGIN[0], password=LOGIN[1])
        config = StreamConfig(name="OWN", subjects=["own.>"], max_msgs=3, max_msg_size=10_000)
        await client.jetstream().add_stream(config)
        await client.close()
        sink = settings(server, jetstream="OWN", subject="own").make({"password": LOGIN[1]})
        await sink.open()
        await sink.deliver(made_events(5))
        await sink.close()
        return await told_info(server, "OWN")

    info = run(main)
    assert (info.config.max_msgs, info.state.messages, info.state.last_seq) == (3, 3, 5)


async def told_info(server: Nats, stream: str) -> StreamInfo:
    client = await nats.connect(f"nats://127.0.0.1:{server.port}", user=LOGIN[0], password=LOGIN[1])
    info = await client.jetstream().stream_info(stream)
    await client.close()
    return info


@pytest.mark.servers
@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_an_event_that_is_too_large_is_told_apart(server: Nats, size: int) -> None:
    """For the stream, and for the server itself."""
    events = made_events(3)
    events[1]["data"]["reason"] = "x" * size
    name = f"SMALL{size}"

    async def main() -> SinkRejected:
        client = await nats.connect(f"nats://127.0.0.1:{server.port}", user=LOGIN[0], password=LOGIN[1])
        await client.jetstream().add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], max_msg_size=10_000))
        await client.close()
        sink = settings(server, jetstream=name, subject=name).make({"password": LOGIN[1]})
        await sink.open()
        with pytest.raises(SinkRejected, match="too large") as caught:
            await sink.deliver(events)
        await sink.deliver(events[2:])
        await sink.close()
        _, found = await told(server, name)
        assert [headers["Nats-Msg-Id"] for _, headers in found] == names([events[0], events[2]])
        return caught.value

    assert run(main).taken == 1


@pytest.mark.servers
def test_a_stream_that_does_not_take_the_subject_is_said(server: Nats) -> None:
    async def main() -> str:
        client = await nats.connect(f"nats://127.0.0.1:{server.port}", user=LOGIN[0], password=LOGIN[1])
        await client.jetstream().add_stream(StreamConfig(name="OTHER", subjects=["other.>"]))
        await client.close()
        sink = settings(server, jetstream="OTHER", subject="nobody").make({"password": LOGIN[1]})
        await sink.open()
        with pytest.raises(SinkError) as caught:
            await sink.deliver(made_events(1))
        await sink.close()
        return str(caught.value)

    assert "did not store an event on 'nobody.door'" in run(main)


@pytest.mark.servers
@pytest.mark.parametrize("secrets", [{}, {"password": "another made up one"}, {"token": "a made up token"}])
def test_a_wrong_login_is_said_and_not_told(server: Nats, secrets: dict[str, str]) -> None:
    async def main() -> str:
        sink = settings(server).make(secrets)
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    message = run(main)
    assert "authorization" in message.lower()
    assert "made up" not in message
