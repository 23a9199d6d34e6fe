"""The proxy between the tests and their servers does what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.servers.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says what it hears."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=repeat, args=(peer,), daemon=True).start()

    def repeat(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(1024):
                    peer.sendall(data)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def client(proxy: Proxy, timeout: float = 30.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout)


def test_it_passes_bytes(echo: int) -> None:
    with Proxy(echo) as proxy, client(proxy) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"


def test_cut_resets_and_refuses_and_the_port_stays(echo: int) -> None:
    with Proxy(echo) as proxy:
        port = proxy.port
        with client(proxy) as peer:
            peer.sendall(b"hello")
            assert peer.recv(10) == b"hello"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                peer.recv(10)
        with pytest.raises(ConnectionRefusedError):
            client(proxy)
        proxy.open()
        assert proxy.port == port
        with client(proxy) as peer:
            peer.sendall(b"again")
            assert peer.recv(10) == b"again"


@pytest.mark.parametrize("mode", ["silence", "deafen"])
def test_nothing_comes_back(echo: int, mode: str) -> None:
    with Proxy(echo) as proxy:
        with client(proxy, 0.3) as peer:
            getattr(proxy, mode)()
            peer.sendall(b"hello")
            with pytest.raises(TimeoutError):
                peer.recv(10)
            with client(proxy, 0.3) as other:
                other.sendall(b"hello")
                with pytest.raises(TimeoutError):
                    other.recv(10)
            proxy.open()
            with pytest.raises(ConnectionResetError):
                peer.recv(10)
        with client(proxy) as peer:
            peer.sendall(b"again")
            assert peer.recv(10) == b"again"


def test_a_server_that_is_down_resets() -> None:
    # Bound and not listening: nobody can be reached there, and nobody else can be given the port meanwhile. The reset
    # may come while the client still waits for its connection.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(nobody.getsockname()[1]) as proxy, pytest.raises(ConnectionResetError), client(proxy) as peer:
            peer.recv(10)
