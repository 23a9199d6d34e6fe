"""MQTT: QoS 1, acknowledged one by one.

=====================================  ==========================================================================
topic                                  what
=====================================  ==========================================================================
``<prefix>/<stream>/events``           every event of the stream, in order; CloudEvents JSON
``<prefix>/<stream>/state``            retained: whether the stream is up, and which flagged segments are open
``<prefix>/available``                 retained: ``online`` or ``offline``, the latter also as last will
=====================================  ==========================================================================

All events of a stream share a topic, since MQTT promises an order within a topic alone (MQTT 5.0, 4.6).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.clients import (
    GOODBYE,
    authority_needs_tls,
    hush,
    password_needs_user,
    positive,
    reason,
    require,
    tls_context,
    within,
)
from streamguard.delivery.sinks.wire import CONTENT_TYPE, Handed, stream_of, structured

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

ONLINE: Final = "online"
OFFLINE: Final = "offline"

_QOS: Final = 1
_KEEPALIVE: Final = 30
# PUBACK reason codes that speak of the message and not of its sender (MQTT 5.0, 3.4.2.1).
_REJECTS: Final = frozenset({0x90, 0x99})


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """``host``, ``port``: the broker; the port is 8883 with ``tls``, else 1883. ``ca_file``: PEM of the authority
    behind its certificate. ``user`` with ``password_file`` or ``password_env``. ``prefix``: the first level of every
    topic; give each machine its own. ``protocol``: `3.1.1` for a broker that has no 5; such a one can't say that it
    refused an event. ``timeout``: seconds an answer may take."""

    name: str
    type: Literal["mqtt"]
    host: str
    port: int | None = None
    tls: bool = False
    ca_file: str | None = None
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    prefix: str = "streamguard"
    client_id: str | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    timeout: float = 10.0

    def __post_init__(self) -> None:
        positive(timeout=self.timeout)
        if not self.prefix or set("+#\0") & set(self.prefix) or self.prefix.startswith(("/", "$")):
            raise ValueError("prefix is no topic: expected a text without + and #, and without / or $ in front")
        authority_needs_tls(self.ca_file, tls=self.tls)

    def make(self, secrets: Mapping[str, str]) -> MqttSink:
        """The sink, not yet open.

        Raises:
            UsageError: the extra `mqtt` is not installed, a password without a user, or a bad ``ca_file``.
        """
        require("aiomqtt", "mqtt", self.name)
        password_needs_user(self.name, self.user, secrets)
        return MqttSink(self, secrets, tls_context(self.name, secrets.get("ca")) if self.tls else None)


@dataclass(slots=True)
class StreamStanding:
    """What is known of a stream from its events: ``up`` (None: not said yet), why it is down or degraded, and the
    flagged segments that are open."""

    up: bool | None = None
    reason: str | None = None
    flagged: set[str] = field(default_factory=set)
    at: str = ""

    def take(self, event: Event, *, late: bool = False) -> bool:
        """Note what ``event`` says; whether anything changed. The same event a second time changes nothing.

        ``late``: it comes out of its order, so of what it says only the end of a segment still holds.
        """
        before = (self.up, self.reason, frozenset(self.flagged))
        _, of, kind, _ = event["type"].split(".")
        data = event["data"]
        if late and (of, kind) != ("segment", "closed"):
            return False
        if of == "stream":
            self.up, self.reason = kind != "down", data["reason"]
        elif of == "segment" and kind == "closed":
            self.flagged.discard(data["segment_id"])
        elif of == "segment":
            self.flagged.add(data["segment_id"])
        self.at = event["time"]
        return before != (self.up, self.reason, frozenset(self.flagged))

    def payload(self, stream: str) -> bytes:
        """As the retained message has it."""
        told = {"stream": stream, "up": self.up, "reason": self.reason, "flagged": sorted(self.flagged), "at": self.at}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


class MqttSink:
    """Publishes one event after another, each when the broker has acknowledged the one before it."""

    batch = 20

    def __init__(self, settings: MqttSettings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self.name = settings.name
        self._settings = settings
        self._port = settings.port or (8883 if settings.tls else 1883)
        self._password = secrets.get("password")
        self._tls = tls
        self._said = f"sink '{self.name}': the broker {settings.host}:{self._port}"
        self._handed = Handed()
        self._standing: dict[str, StreamStanding] = {}  # one a stream; streams are few and named by the operator
        self._untold: set[str] = set()
        self._client: _Client | None = None
        hush("mqtt")

    async def open(self) -> None:
        """Connect, say that StreamGuard is there, and how each stream stands."""
        import aiomqtt

        if self._client is not None:
            return
        client = _Client(self._settings, self._password, self._tls)
        try:
            async with within(2 * self._settings.timeout, self._said):
                await client.connect()
        except (aiomqtt.MqttError, ValueError) as error:
            raise SinkError(f"{self._said} can't be reached: {reason(error)}.") from error
        self._client = client
        await self._publish(f"{self._settings.prefix}/available", ONLINE.encode(), retain=True)
        self._untold.update(self._standing)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Publish the batch, and every state that it changed."""
        for place, event in self._handed.rest(events):
            await self._tell(event, place)
            self._handed.add(event)
            self._note(event)
            await self._tell_states()
        await self._tell_states()

    async def deliver_late(self, event: Event) -> None:
        """Publish it; what is retained says how things stand now, not how they stood."""
        await self._tell(event, 0)
        self._note(event, late=True)
        await self._tell_states()

    async def _tell(self, event: Event, place: int) -> None:
        await self._publish(f"{self._settings.prefix}/{stream_of(event)}/events", structured(event), place=place)

    def _note(self, event: Event, *, late: bool = False) -> None:
        stream = stream_of(event)
        if self._standing.setdefault(stream, StreamStanding()).take(event, late=late):
            self._untold.add(stream)

    async def _tell_states(self) -> None:
        for stream in sorted(self._untold):
            topic = f"{self._settings.prefix}/{stream}/state"
            await self._publish(topic, self._standing[stream].payload(stream), retain=True)
            self._untold.discard(stream)

    async def _publish(self, topic: str, payload: bytes, *, retain: bool = False, place: int | None = None) -> None:
        import aiomqtt

        if self._client is None:
            raise SinkError(f"{self._said} is not connected.")
        try:
            async with within(self._settings.timeout, self._said):
                refusal = await self._client.publish(topic, payload, retain)
        except (aiomqtt.MqttError, ValueError) as error:
            raise SinkError(f"{self._said} is gone: {reason(error)}.") from error
        if refusal is None:
            return
        text = f"{self._said} refuses what was sent to '{topic}': {refusal}."
        if place is not None and refusal.value in _REJECTS:
            raise SinkRejected(text, taken=place)
        raise SinkError(text)

    async def close(self) -> None:
        """Say that StreamGuard leaves, and disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await client.leave(f"{self._settings.prefix}/available")


class _Client:
    """aiomqtt's client, which by itself neither notices a lost connection while it waits for an acknowledgement, nor
    that the acknowledgement is a refusal, nor lets go of a broker that never answered."""

    def __init__(self, settings: MqttSettings, password: str | None, tls: ssl.SSLContext | None) -> None:
        import aiomqtt

        sink = self
        self.refusal: ReasonCode | None = None
        self._five = settings.protocol == "5"
        self._properties = _properties() if self._five else None
        self._lost: asyncio.Task[None] | None = None

        class Client(aiomqtt.Client):
            def _on_publish(self, client: Any, userdata: Any, mid: int, code: ReasonCode, properties: Any) -> None:
                sink.refusal = code if code.is_failure else None
                super()._on_publish(client, userdata, mid, code, properties)

        self._client = Client(
            settings.host,
            settings.port or (8883 if tls is not None else 1883),
            username=settings.user,
            password=password,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if self._five else aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(f"{settings.prefix}/available", OFFLINE, qos=_QOS, retain=True),
            timeout=settings.timeout,
            keepalive=_KEEPALIVE,
            tls_context=tls,
        )
        self._client._client.connect_timeout = settings.timeout

    async def connect(self) -> None:
        """Connect; a broker that takes the connection and says nothing is left.

        Raises:
            aiomqtt.MqttError: unreachable, refused, or silent.
        """
        entering = asyncio.ensure_future(self._client.__aenter__())
        try:
            # It connects in a thread, which nobody can cancel: if it is given up, it is left when it is through.
            await asyncio.shield(entering)
        except BaseException:
            entering.add_done_callback(self._abandon)
            raise
        self._lost = asyncio.create_task(self._until_lost())

    def _abandon(self, entering: asyncio.Future[Any]) -> None:
        if not entering.cancelled():
            entering.exception()
        self._client._client.disconnect()

    async def _until_lost(self) -> None:
        async for _ in self._client.messages:
            pass

    async def publish(self, topic: str, payload: bytes, retain: bool) -> ReasonCode | None:
        """Publish, wait for the acknowledgement; None, or why the broker refused.

        Raises:
            aiomqtt.MqttError: the connection was lost meanwhile.
        """
        assert self._lost is not None, "not connected"
        self.refusal = None
        sent = asyncio.create_task(
            self._client.publish(topic, payload, qos=_QOS, retain=retain, properties=self._properties)
        )
        try:
            await asyncio.wait({sent, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if not sent.done():
                self._lost.result()
            sent.result()
        finally:
            sent.cancel()
        return self.refusal

    async def leave(self, available: str) -> None:
        """Disconnect within a short time. A broker that does not hear it sends the last will."""
        import aiomqtt

        assert self._lost is not None, "not connected"
        try:
            async with asyncio.timeout(GOODBYE):
                if not self._lost.done():
                    await self.publish(available, OFFLINE.encode(), retain=True)
                await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError, ValueError):
            self._client._client.disconnect()
        self._lost.cancel()
        await asyncio.gather(self._lost, return_exceptions=True)


def _properties() -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    properties.PayloadFormatIndicator = 1  # UTF-8
    return properties
