"""Webhook: one HTTP POST an event, signed, answered by a status.

The body is the CloudEvent in structured mode (CloudEvents HTTP binding 1.0.2); signature, identity and time stand in
the headers of Standard Webhooks 1.0, for which most languages have a library::

    content-type: application/cloudevents+json
    webhook-id: /streamguard/studio/door/mh3x.4b1f.../0        the same at every try; also as idempotency-key
    webhook-timestamp: 1790000000                              when this try was made, Unix seconds
    webhook-signature: v1,<base64 of HMAC-SHA256(key, "<id>.<timestamp>.<body>")>

A receiver checks with :func:`verify` (or such a library), and drops an id that it has seen.

>>> key = "whsec_bm90IGEgc2VjcmV0LCBhbiBleGFtcGxl"
>>> headers = sign(key, "/streamguard/studio/door/r1/0", b"{}", now=1790000000)
>>> verify(key, headers, b"{}", now=1790000010)
'/streamguard/studio/door/r1/0'
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import TYPE_CHECKING, Final, Literal

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.clients import GOODBYE, address, positive, reason, tls_context, within
from streamguard.delivery.sinks.wire import CONTENT_TYPE, Handed, identity, structured
from streamguard.errors import StreamGuardError, UsageError

if TYPE_CHECKING:
    import aiohttp

WINDOW: Final = 300.0
"""Seconds that a receiver's clock and the sender's may be apart; an older request is a replay."""
ANSWER_BOUND: Final = 65_536
"""Bytes of an answer that are read; what follows is left on the line, which is closed."""

_PREFIX: Final = "whsec_"
_LEAST_KEY: Final = 16
_LONGEST_REST: Final = 3600.0
# What says that this event is wrong. Any other refusal (401, 404 ...) says that the receiver is not ready: it is kept.
_REJECTS: Final = frozenset({400, 413, 415, 422})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Unverified(StreamGuardError):
    """A request that did not come from who knows the key, or not now."""


def sign(secret: str, name: str, body: bytes, *, now: float | None = None) -> dict[str, str]:
    """The three headers that vouch for ``body``; ``name`` is the event's identity, ``now`` Unix time."""
    at = str(int(time.time() if now is None else now))
    return {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": f"v1,{_digest(secret, name, at, body)}"}


def verify(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None, window: float = WINDOW
) -> str:
    """The identity of the event in ``body``, if whoever sent it knows ``secret`` and sent it within ``window`` seconds.

    ``headers``: in any case; several signatures may stand in one, as while a key is changed.

    Raises:
        Unverified: a header is missing, the time is off, or no signature fits.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        name, at, signatures = (given[f"webhook-{what}"] for what in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise Unverified(f"The header {error} is missing.") from None
    if not (at.isascii() and at.isdigit()) or abs((time.time() if now is None else now) - int(at)) > window:
        raise Unverified(f"The time {at[:20]!r} is more than {window:g} s away from now: a replay, or a wrong clock.")
    expected = _digest(secret, name, at, body).encode()
    for signature in signatures.split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return name
    raise Unverified("No signature fits: another key, or another body.")


def _digest(secret: str, name: str, at: str, body: bytes) -> str:
    message = f"{name}.{at}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), message, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    """Base64 after ``whsec_``; any other text as it stands."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_PREFIX)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, from a Retry-After header (RFC 9110, 10.2.3): a number or a date. An hour at most.

    >>> retry_after("7", 0.0), retry_after("Thu, 01 Jan 1970 00:00:09 GMT", 2.0), retry_after("soon", 0.0)
    (7.0, 7.0, None)
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_REST)
    with suppress(ValueError):
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now), _LONGEST_REST)
    return None


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """``url``: where events are posted. ``secret_file`` or ``secret_env``: the key that signs them, `whsec_` with
    base64 behind it or any text from 16 bytes. ``token_file`` or ``token_env``: sent as `Authorization: Bearer`.
    ``ca_file``: PEM of the authority behind the receiver's certificate. ``timeout``: seconds a request may take."""

    name: str
    type: Literal["webhook"]
    url: str = field(repr=False)  # the path of some receivers is a secret
    secret_file: str | None = None
    secret_env: str | None = None
    token_file: str | None = None
    token_env: str | None = None
    ca_file: str | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        address(self.url, "https", "http")
        positive(timeout=self.timeout)

    def make(self, secrets: Mapping[str, str]) -> WebhookSink:
        """The sink, not yet open.

        Raises:
            UsageError: a key that is no base64 or short, a token that would travel in the clear, a bad ``ca_file``.
        """
        parts = address(self.url, "https", "http")
        if "secret" in secrets:
            _check_key(self.name, secrets["secret"])
        if "token" in secrets and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UsageError(f"sink '{self.name}': its token would travel in the clear. Use https.")
        tls = tls_context(self.name, secrets.get("ca")) if parts.scheme == "https" else None
        return WebhookSink(self, secrets, tls)


def _check_key(sink: str, secret: str) -> None:
    try:
        size = len(_key(secret))
    except (binascii.Error, ValueError):
        raise UsageError(f"sink '{sink}': what follows whsec_ in its secret is not base64.") from None
    if size < _LEAST_KEY:
        raise UsageError(
            f"sink '{sink}': its secret has {size} bytes, expected {_LEAST_KEY} or more. Make one: openssl rand -hex 32"
        )


class WebhookSink:
    """Posts one event after another over one connection, each when the one before it is acknowledged by a 2xx."""

    batch = 10

    def __init__(self, settings: WebhookSettings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        parts = address(settings.url, "https", "http")
        self.name = settings.name
        self._url = settings.url
        self._timeout = settings.timeout
        self._secret = secrets.get("secret")
        self._token = secrets.get("token")
        self._tls = tls
        self._said = f"sink '{self.name}': {parts.scheme}://{parts.netloc}"
        self._handed = Handed()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready; a connection is made when there is something to send."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls, limit=1),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer may be gigabytes when it is unpacked
            )

    async def deliver(self, events: Sequence[Event]) -> None:
        """Post the batch, event by event."""
        for place, event in self._handed.rest(events):
            await self._post(event, place)
            self._handed.add(event)

    async def _post(self, event: Event, place: int) -> None:
        import aiohttp

        if self._session is None:
            raise SinkError(f"{self._said} is not open.")
        body = structured(event)
        headers = self._headers(identity(event), body)
        try:
            async with within(self._timeout, self._said):
                response = await self._session.post(self._url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise SinkError(f"{self._said} can't be reached: {reason(error)}.") from error
        try:
            self._judge(response.status, response.headers, event, place)
            await _read_out(response)
        finally:
            response.release()

    def _headers(self, name: str, body: bytes) -> dict[str, str]:
        headers = {"content-type": CONTENT_TYPE, "idempotency-key": name, "webhook-id": name}
        if self._secret is not None:
            headers |= sign(self._secret, name, body)
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _judge(self, status: int, headers: Mapping[str, str], event: Event, place: int) -> None:
        """What the body of the answer says is never told: a receiver may echo the token."""
        if 200 <= status < 300:
            return
        phrase = f"{status} {responses.get(status, '')}".rstrip()
        if status in _REJECTS:
            raise SinkRejected(f"{self._said} refuses event '{event['id']}': {phrase}.", taken=place)
        advice = " Redirects are not followed: put the new address into url." if 300 <= status < 400 else ""
        raise SinkError(f"{self._said} answers {phrase}.{advice}", retry_after(headers.get("Retry-After"), time.time()))

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end, so that its connection can carry the next event. The status has decided
    already: an answer that breaks off, or never ends, costs its connection only."""
    import aiohttp

    length = 0
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(GOODBYE):
            async for chunk in response.content.iter_any():
                length += len(chunk)
                if length > ANSWER_BOUND:
                    return
