"""MQTT: topics, the retained state, the last will; a broker that refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import LateSink, SinkError
from streamguard.delivery.sinks.mqtt import MqttSettings, StreamStanding
from streamguard.errors import UsageError
from tests.brokers import Mosquitto, require
from tests.delivery.sinks.made import made_events, run, until
from tests.servers.proxy import Proxy

USER, PASSWORD = "guard", "made-up"


def said(kind: str, **data: object) -> Event:
    return {"type": f"streamguard.{kind}.v1", "time": "2026-01-01T00:00:00Z", "data": {"stream": "door", **data}}


def test_what_is_known_of_a_stream_follows_its_events() -> None:
    standing = StreamStanding()
    assert json.loads(standing.payload("door")) == {
        "stream": "door",
        "up": None,
        "reason": None,
        "flagged": [],
        "at": "",
    }
    assert standing.take(said("stream.up", reason=None))
    assert standing.up
    assert not standing.take(said("stream.up", reason=None))
    assert standing.take(said("segment.opened", segment_id="s1"))
    assert not standing.take(said("segment.updated", segment_id="s1"))
    assert not standing.take(said("track.state", state="flagged"))
    assert standing.take(said("stream.degraded", reason="frozen picture"))
    assert json.loads(standing.payload("door")) == {
        "stream": "door",
        "up": True,
        "reason": "frozen picture",
        "flagged": ["s1"],
        "at": "2026-01-01T00:00:00Z",
    }
    assert standing.take(said("segment.closed", segment_id="s1"))
    assert standing.take(said("stream.down", reason="no frames"))
    assert (standing.up, standing.reason, standing.flagged) == (False, "no frames", set())


def test_doubles_end_where_they_began() -> None:
    events = [said("segment.opened", segment_id="s1"), said("segment.closed", segment_id="s1")]
    standing = StreamStanding()
    for event in events + events:
        standing.take(event)
    assert standing.flagged == set()


def test_what_comes_late_ends_a_segment_and_changes_nothing_else() -> None:
    standing = StreamStanding()
    for event in (said("stream.up", reason=None), said("segment.opened", segment_id="s2")):
        standing.take(event)
    for late in (said("segment.opened", segment_id="s1"), said("stream.down", reason="no frames")):
        assert not standing.take(late, late=True)
    assert (standing.up, standing.flagged) == (True, {"s2"})
    assert standing.take(said("segment.closed", segment_id="s2"), late=True)
    assert standing.flagged == set()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0.0}, "timeout is 0"),
        ({"prefix": "a/+"}, "prefix is no topic"),
        ({"prefix": ""}, "prefix is no topic"),
        ({"prefix": "$SYS"}, "prefix is no topic"),
        ({"prefix": "/a"}, "prefix is no topic"),
        ({"ca_file": "a.pem"}, "no use without tls"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MqttSettings("hall", "mqtt", "127.0.0.1", **settings)  # type: ignore[arg-type]


def test_a_password_needs_a_user() -> None:
    with pytest.raises(UsageError, match="a password, and no user"):
        MqttSettings("hall", "mqtt", "127.0.0.1").make({"password": PASSWORD})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Knows one user, who may write below streamguard/ alone."""
    require(Mosquitto)
    with Mosquitto(tmp_path_factory.mktemp("mosquitto"), {USER: PASSWORD}) as server:
        yield server


@asynccontextmanager
async def subscribed(broker: Mosquitto, topic: str) -> AsyncIterator[list[aiomqtt.Message]]:
    """What comes on ``topic``, as it comes."""
    found: list[aiomqtt.Message] = []
    async with aiomqtt.Client("127.0.0.1", broker.port, username=USER, password=PASSWORD) as client:
        await client.subscribe(topic, qos=1)

        async def follow() -> None:
            async for message in client.messages:
                found.append(message)

        task = asyncio.create_task(follow())
        yield found
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def settings(port: int, **more: object) -> MqttSettings:
    return MqttSettings("hall", "mqtt", "127.0.0.1", port, user=USER, timeout=10.0, **more)  # type: ignore[arg-type]


@pytest.mark.servers
def test_events_state_and_presence(broker: Mosquitto) -> None:
    def whole(kind: str, number: int, **data: object) -> Event:
        return {"source": "/streamguard/studio/door", "id": f"r1/{number}", **said(kind, **data)}

    events = [
        whole("stream.up", 0, reason=None),
        whole("segment.opened", 1, segment_id="s1"),
        whole("segment.updated", 2, segment_id="s1"),
        whole("segment.closed", 3, segment_id="s1"),
    ]

    async def main() -> tuple[list[aiomqtt.Message], dict[str, bytes]]:
        async with subscribed(broker, "streamguard/#") as found:
            sink = settings(broker.port).make({"password": PASSWORD})
            await sink.open()
            await sink.deliver(events)
            await sink.close()

            async def left() -> bool:
                return bool(found) and found[-1].payload == b"offline"

            await until(left)
        async with subscribed(broker, "streamguard/#") as later:

            async def both() -> bool:
                return len(later) >= 2

            await until(both)
            assert all(message.retain for message in later)
            return found, {str(message.topic): bytes(message.payload) for message in later}

    found, retained = run(main)
    assert [str(message.topic).removeprefix("streamguard/") for message in found] == [
        "available",
        "door/events",
        "door/state",
        "door/events",
        "door/state",
        "door/events",
        "door/events",
        "door/state",
        "available",
    ]
    assert [json.loads(m.payload) for m in found if str(m.topic).endswith("/events")] == events
    assert [json.loads(m.payload)["flagged"] for m in found if str(m.topic).endswith("/state")] == [[], ["s1"], []]
    assert all(message.qos == 1 for message in found)
    assert set(retained) == {"streamguard/available", "streamguard/door/state"}
    assert retained["streamguard/available"] == b"offline"


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_lost_streamguard_is_told_by_its_last_will(broker: Mosquitto, protocol: str) -> None:
    async def main() -> list[bytes]:
        async with subscribed(broker, f"streamguard/{protocol}/available") as found:
            with Proxy(broker.port) as proxy:
                sink = settings(proxy.port, prefix=f"streamguard/{protocol}", protocol=protocol).make(
                    {"password": PASSWORD}
                )
                await sink.open()
                await sink.deliver(made_events(1))
                await asyncio.to_thread(proxy.cut)

                async def lost() -> bool:
                    return len(found) == 2

                await until(lost)
                await sink.close()
        return [bytes(message.payload) for message in found]

    assert run(main) == [b"online", b"offline"]


@pytest.mark.servers
@pytest.mark.parametrize("secrets", [{}, {"password": "another made up one"}])
def test_a_wrong_password_is_said_and_not_told(broker: Mosquitto, secrets: dict[str, str]) -> None:
    async def main() -> str:
        sink = settings(broker.port).make(secrets)
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    message = run(main)
    assert "sink 'hall': the broker 127.0.0.1" in message
    assert "Not authorized" in message
    assert "made up" not in message


@pytest.mark.servers
def test_a_topic_that_may_not_be_written_is_said(broker: Mosquitto) -> None:
    """mosquitto acknowledges and drops; in MQTT 5 the acknowledgement says so."""

    async def main() -> str:
        sink = settings(broker.port, prefix="elsewhere").make({"password": PASSWORD})
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    assert "refuses what was sent to 'elsewhere/available': Not authorized" in run(main)


@pytest.mark.servers
def test_a_dead_letter_is_published_and_not_retained_as_how_things_stand(broker: Mosquitto) -> None:
    named = {"source": "/streamguard/studio/door", "id": "r1/0"}
    opened = named | said("segment.opened", segment_id="s1")

    async def main() -> list[bytes]:
        async with subscribed(broker, "streamguard/late/door/#") as found:
            sink = settings(broker.port, prefix="streamguard/late").make({"password": PASSWORD})
            assert isinstance(sink, LateSink)
            await sink.open()
            await sink.deliver_late(opened)
            await sink.deliver([named | said("track.state", state="clear")])

            async def both() -> bool:
                return len(found) == 2

            await until(both)
            await sink.close()
            return [bytes(message.payload) for message in found]

    assert [json.loads(payload)["type"].split(".")[1] for payload in run(main)] == ["segment", "track"]


@pytest.mark.servers
def test_states_are_told_again_after_a_lost_connection(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker may have lost what it retained."""
    up = {"source": "/streamguard/studio/door", "id": "r1/0", **said("stream.up", reason=None)}

    async def main() -> int:
        async with subscribed(broker, "streamguard/again/door/state") as found:
            sink = settings(broker.port, prefix="streamguard/again").make({"password": PASSWORD})
            for event in (up, up | {"id": "r1/1"}):
                await sink.open()
                await sink.deliver([event])
                await sink.close()

            async def twice() -> bool:
                return len(found) == 2

            await until(twice)
        return len(found)

    assert run(main) == 2
