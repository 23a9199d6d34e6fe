"""How much one client may take: requests a second, wrong tokens, connections.

A client is an IPv4 address, or the /64 of an IPv6 address: a household's worth of addresses counts as one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final, cast

from aiohttp import web

_MOST_CLIENTS: Final = 4096  # remembered at once; the one not heard of for longest is forgotten first
_UNTAKEN: Final = 60_000  # milliseconds that what was sent may lie unacknowledged (RFC 5482)


def client_of(peer: object) -> str:
    """Whom a peer's address stands for.

    >>> client_of(("2001:db8::1:2:3:4", 443, 0, 0)), client_of(("192.0.2.7", 9)), client_of(None)
    ('2001:db8::', '192.0.2.7', '')
    """
    if not isinstance(peer, tuple):
        return ""
    address = ip_address(str(peer[0]).partition("%")[0])
    if not isinstance(address, IPv6Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))


class Buckets:
    """A token bucket a client: ``burst`` at once, ``rate`` a second from then on.

    >>> buckets = Buckets(rate=1.0, burst=2, clock=lambda: 0.0)
    >>> [buckets.take("a") for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: how many, as of when

    def wait(self, client: str) -> float:
        """Seconds until the client may take one; 0 if it may now."""
        return max(0.0, (1.0 - self._level(client)) / self._rate)

    def take(self, client: str) -> float:
        """Take one. Returns 0, or the seconds until there is one: then nothing was taken."""
        level = self._level(client)
        if level < 1.0:
            return (1.0 - level) / self._rate
        self._left[client] = (level - 1.0, self._clock())
        self._left.move_to_end(client)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        return 0.0

    def _level(self, client: str) -> float:
        level, since = self._left.get(client, (float(self._burst), self._clock()))
        return min(self._burst, level + (self._clock() - since) * self._rate)


class Doorkeeper(asyncio.Protocol):
    """Takes a connection in and hands it to the HTTP server, or closes it where there are too many.

    A peer that takes nothing for a minute is disconnected by the system, whatever is being sent to it.
    """

    def __init__(self, server: web.Server, most: int, per_client: int, refused: Callable[[], None]) -> None:
        self._server = server
        self._most = most
        self._per_client = per_client
        self._refused = refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        client = client_of(transport.get_extra_info("peername"))
        others = self._server.connections
        if len(others) >= self._most or sum(client_of(o.peername) == client for o in others) >= self._per_client:
            self._refused()
            transport.abort()
            return
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN)
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
