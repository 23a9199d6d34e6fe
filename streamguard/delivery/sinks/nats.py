"""NATS JetStream: every event of a stream on the subject ``<subject>.<stream>``, acknowledged by the server's storage.

``Nats-Msg-Id`` is the event's identity: the server drops what comes a second time within its duplicate window. A dot
in a stream's name is written ``%2E``, since NATS reads dots as levels. The JetStream stream is made if there is none of
the name, with file storage and without limits; one that is there stays as it is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.clients import (
    GOODBYE,
    address,
    password_needs_user,
    positive,
    reason,
    require,
    tls_context,
    within,
)
from streamguard.delivery.sinks.wire import CONTENT_TYPE, Handed, identity, stream_of, structured

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

DUPLICATE_WINDOW: Final = 600.0
"""Seconds for which a stream that was made here remembers identities."""

_TOO_LARGE: Final = 10054  # JSStreamMessageExceedsMaximumErr


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """``servers``: nats://HOST or tls://HOST; the first that answers is taken. ``jetstream``: the name of the JetStream
    stream that keeps the events. ``subject``: what stands in front of the stream's name. ``user`` with
    ``password_file`` or ``password_env``, or ``token_file`` or ``token_env``. ``ca_file``: PEM of the authority behind
    the servers' certificate. ``timeout``: seconds an answer may take."""

    name: str
    type: Literal["nats"]
    servers: tuple[str, ...]
    jetstream: str = "STREAMGUARD"
    subject: str = "streamguard"
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    token_file: str | None = None
    token_env: str | None = None
    ca_file: str | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        positive(timeout=self.timeout)
        if not self.servers:
            raise ValueError("servers is empty; expected nats://HOST or tls://HOST")
        for server in self.servers:
            address(server, "nats", "tls")
        for what in ("jetstream", "subject"):
            text = getattr(self, what)
            if not text or not text.isascii() or not text.isprintable() or set("*> ") & set(text):
                raise ValueError(f"{what} is no name: expected ASCII without blanks, * and >")
        if set("./\\") & set(self.jetstream):
            raise ValueError("jetstream is no name of a stream: expected no dot and no slash in it")

    def make(self, secrets: Mapping[str, str]) -> NatsSink:
        """The sink, not yet open.

        Raises:
            UsageError: the extra `nats` is not installed, a password without a user, or a bad ``ca_file``.
        """
        require("nats", "nats", self.name)
        password_needs_user(self.name, self.user, secrets)
        tls = any(server.startswith("tls:") for server in self.servers)
        return NatsSink(self, secrets, tls_context(self.name, secrets.get("ca")) if tls else None)


class NatsSink:
    """Publishes one event after another, each when the server has stored the one before it."""

    batch = 20

    def __init__(self, settings: NatsSettings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self.name = settings.name
        self._settings = settings
        self._secrets = dict(secrets)
        self._tls = tls
        self._said = f"sink '{self.name}': {' '.join(settings.servers)}"
        self._handed = Handed()
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._lost = asyncio.Event()
        self._error: Exception | None = None

    async def open(self) -> None:
        """Connect, and see to it that the JetStream stream is there."""
        import nats.errors
        from nats.aio.client import Client

        if self._client is not None:
            return
        client = Client()
        try:
            async with within(self._settings.timeout, self._said):
                await self._connect(client)
                self._jetstream = client.jetstream(timeout=self._settings.timeout)
                await self._ensure_stream(self._jetstream)
        except (nats.errors.Error, OSError, SinkError) as error:
            if isinstance(error, SinkError) and self._error is None:
                raise
            # It waits on for the end of a connection whose TLS failed: what it noted first is the reason.
            raise SinkError(f"{self._said} can't be used: {reason(self._error or error)}.") from error
        else:
            self._client = client
        finally:
            if self._client is None:
                await _leave(client)

    async def _connect(self, client: Client) -> None:
        self._lost.clear()
        self._error = None

        async def note(error: Exception) -> None:
            self._error = self._error or error  # the first: what follows tells only that the line was then cut

        async def lost() -> None:
            self._lost.set()

        secrets, settings = self._secrets, self._settings
        await client.connect(
            list(settings.servers),
            error_cb=note,
            disconnected_cb=lost,
            closed_cb=lost,
            # The outbox comes again, with its own back-off: one more try, since 0 is without end to nats-py. Forbidden
            # to reconnect, it does not tell that the connection is lost while something waits to be written.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            user=settings.user,
            password=secrets.get("password"),
            token=secrets.get("token"),
            tls=self._tls,
            name="streamguard",
        )

    async def _ensure_stream(self, jetstream: JetStreamContext) -> None:
        from nats.js.api import StorageType, StreamConfig
        from nats.js.errors import NotFoundError

        settings = self._settings
        try:
            await jetstream.stream_info(settings.jetstream)
        except NotFoundError:
            config = StreamConfig(
                name=settings.jetstream,
                subjects=[f"{settings.subject}.>"],
                storage=StorageType.FILE,
                duplicate_window=DUPLICATE_WINDOW,
            )
            await jetstream.add_stream(config)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Publish the batch."""
        for place, event in self._handed.rest(events):
            await self._publish(event, place)
            self._handed.add(event)

    async def _publish(self, event: Event, place: int) -> None:
        import nats.errors
        from nats.js.errors import APIError

        if self._client is None or self._jetstream is None:
            raise SinkError(f"{self._said} is not connected.")
        subject = f"{self._settings.subject}.{stream_of(event).replace('.', '%2E')}"
        sent = asyncio.ensure_future(
            self._jetstream.publish(
                subject,
                structured(event),
                timeout=self._settings.timeout,
                stream=self._settings.jetstream,
                headers={"Nats-Msg-Id": identity(event), "content-type": CONTENT_TYPE},
            )
        )
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            async with within(self._settings.timeout, self._said):
                await asyncio.wait({sent, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not sent.done():
                raise SinkError(f"{self._said} is gone: {reason(self._error or ConnectionResetError('closed'))}.")
            sent.result()
        except nats.errors.MaxPayloadError as error:
            raise SinkRejected(f"{self._said} refuses event '{event['id']}': too large.", taken=place) from error
        except (nats.errors.Error, OSError) as error:
            if isinstance(error, APIError) and error.err_code == _TOO_LARGE:
                raise SinkRejected(f"{self._said} refuses event '{event['id']}': too large.", taken=place) from error
            raise SinkError(f"{self._said} did not store an event on '{subject}': {reason(error)}.") from error
        finally:
            sent.cancel()
            lost.cancel()

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await _leave(client)


async def _leave(client: Client) -> None:
    import nats.errors

    with suppress(nats.errors.Error, OSError):
        async with asyncio.timeout(GOODBYE):
            await client.close()
    # Where a lost connection can't take what was still to be written, close() breaks off and leaves these running.
    left: list[asyncio.Task[None] | None] = [one._wait_for_msgs_task for one in client._subs.values()]
    for task in left:
        if task is not None:
            task.cancel()
