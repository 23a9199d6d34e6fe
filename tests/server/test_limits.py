"""Buckets, step by step; what the system is told of a connection."""

import asyncio
import socket

import pytest
from aiohttp import web

from streamguard.server.limits import Buckets, Doorkeeper, client_of
from tests.clock import Clock


def test_a_burst_then_a_rate():
    clock = Clock(100.0)
    buckets = Buckets(rate=2.0, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    clock.now += 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 0.5]
    clock.now += 1000.0
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "no more than a burst is saved up"


def test_clients_do_not_share():
    buckets = Buckets(rate=1.0, burst=1, clock=Clock(100.0))
    assert [buckets.take("a"), buckets.take("b"), buckets.take("a")] == [0.0, 0.0, 1.0]


def test_waiting_takes_nothing():
    buckets = Buckets(rate=1.0, burst=1, clock=Clock(100.0))
    assert [buckets.wait("a"), buckets.wait("a"), buckets.take("a"), buckets.wait("a")] == [0.0, 0.0, 0.0, 1.0]


def test_clients_are_forgotten_before_they_are_too_many():
    buckets = Buckets(rate=0.001, burst=1, clock=Clock(100.0))
    for number in range(5000):
        buckets.take(str(number))
    assert buckets.take("4999") > 0
    assert buckets.take("0") == 0.0
    assert len(buckets._left) <= 4096


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.7", 9), "192.0.2.7"),
        (("::ffff:192.0.2.7", 9, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:a::", 9, 0, 0), "2001:db8:1:2::"),
        (("2001:db8:1:2:b::1", 9, 0, 0), "2001:db8:1:2::"),
        (("fe80::1%eth0", 9, 0, 2), "fe80::"),
        (None, ""),
    ],
)
def test_whom_an_address_stands_for(peer, client):
    assert client_of(peer) == client


def test_a_peer_that_takes_nothing_is_left_to_the_system():
    """The kernel ends it after a minute (TCP_USER_TIMEOUT, RFC 5482), whatever is being sent."""

    async def answer(request):
        connection = request.transport.get_extra_info("socket")
        return web.Response(text=f"{connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)} ms")

    async def main():
        http = web.Server(answer)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Doorkeeper(http, 9, 9, lambda: None), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        told = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await http.shutdown()
        return told

    assert asyncio.run(main()).endswith(b"60000 ms")
