"""A login in front of a Kafka that knows none: a door for tests/servers/proxy.py.

A connection passes once its user has logged in as Kafka's protocol has it (KIP-43, KIP-152): SaslHandshake v1, then
SaslAuthenticate v0 or v1 with PLAIN (RFC 4616) or SCRAM (RFC 5802, by scramp). What else is asked before that ends the
connection, but for ApiVersions, to whose answer the two are added. That the door does as brokers do is held by
librdkafka's own login (tests/servers/test_login.py).
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Final

import trustme
from scramp import ScramException, ScramMechanism

from tests.brokers import Kafka
from tests.rtsp_server import free_port
from tests.servers.proxy import Ends, Proxy

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_HANDSHAKE, _VERSIONS, _AUTHENTICATE = 17, 18, 36  # https://kafka.apache.org/protocol#protocol_api_keys
_OFFERED: Final = b"".join(struct.pack(">hhh", *api) for api in ((_HANDSHAKE, 1, 1), (_AUTHENTICATE, 0, 1)))
_UNSUPPORTED_MECHANISM, _UNSUPPORTED_VERSION, _FAILED = 33, 35, 58

_Step = Callable[[bytes], tuple[bytes, bool]]
"""What the client says, to what the server says and whether that was all; a ValueError if it is wrong."""


def guarded(kafka: Kafka, authority: trustme.CA, login: Login | None = None) -> Proxy:
    """The started cluster behind TLS, with a certificate for 127.0.0.1, and a login; not open yet."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    port = free_port()
    return Proxy(kafka.port, port, kafka.sent_to(port), context, login)


class Login:
    """``users``: passwords by name. ``let_in``: by which mechanisms somebody was."""

    def __init__(self, users: dict[str, str]) -> None:
        self._users = users
        self.let_in: list[str] = []

    async def __call__(self, near: Ends, far: Ends) -> None:
        """Return when the client on the ``near`` side has logged in.

        Raises:
            ConnectionResetError: it did not.
        """
        mechanism, step = "", None
        while True:
            request = await _read(near[0])
            key, version, _, length = struct.unpack_from(">hhih", request)
            body = request[10 + max(length, 0) :]
            if key == _VERSIONS:
                await _write(near[1], request, await _versions(version, request, far))
            elif (key, version) == (_HANDSHAKE, 1):
                mechanism = body[2:].decode()
                step = self._step(mechanism)
                head = struct.pack(">hi", _UNSUPPORTED_MECHANISM if step is None else 0, len(MECHANISMS))
                await _write(near[1], request, head + b"".join(map(_text, MECHANISMS)))
            elif key == _AUTHENTICATE and version <= 1 and step is not None:
                lifetime = bytes(8 * version)
                try:
                    said, done = step(body[4:])
                except ValueError:
                    told = struct.pack(">h", _FAILED) + _text("Authentication failed") + bytes(4) + lifetime
                    await _write(near[1], request, told)
                    raise ConnectionResetError from None
                await _write(near[1], request, struct.pack(">hhi", 0, -1, len(said)) + said + lifetime)
                if done:
                    self.let_in.append(mechanism)
                    return
            else:
                raise ConnectionResetError

    def _step(self, mechanism: str) -> _Step | None:
        if mechanism == "PLAIN":
            return self._plain
        return _scram(mechanism, self._users) if mechanism in MECHANISMS else None

    def _plain(self, said: bytes) -> tuple[bytes, bool]:
        _, user, password = said.decode().split("\0")
        if self._users.get(user) != password:
            raise ValueError("wrong")
        return b"", True


def _scram(mechanism: str, users: dict[str, str]) -> _Step:
    scram = ScramMechanism(mechanism)
    server = scram.make_server(lambda user: scram.make_auth_info(users[user]))
    begun = False

    def step(said: bytes) -> tuple[bytes, bool]:
        nonlocal begun
        try:
            if not begun:
                begun = True
                server.set_client_first(said.decode())
                return server.get_server_first().encode(), False
            server.set_client_final(said.decode())
            return server.get_server_final().encode(), True
        except (ScramException, KeyError) as error:
            raise ValueError("wrong") from error

    return step


async def _versions(version: int, request: bytes, far: Ends) -> bytes:
    """What the far side serves, and the login beside it, in the oldest form: another is asked anew (KIP-511)."""
    if version > 0:
        return struct.pack(">hi", _UNSUPPORTED_VERSION, 1) + struct.pack(">hhh", _VERSIONS, 0, 0)
    far[1].write(struct.pack(">i", len(request)) + request)
    answer = await _read(far[0])
    error, count = struct.unpack_from(">hi", answer, 4)
    return struct.pack(">hi", error, count + 2) + answer[10:] + _OFFERED


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError from error


async def _write(writer: asyncio.StreamWriter, request: bytes, body: bytes) -> None:
    """The answer to a request: its number, then ``body``."""
    writer.write(struct.pack(">i", len(body) + 4) + request[4:8] + body)
    await writer.drain()


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
