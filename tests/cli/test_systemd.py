"""What the service manager is told: a real datagram socket in its place."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamguard.cli.systemd import Notifier
from streamguard.config import ServiceManager, service_manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(60)
        yield end


def silence(manager: socket.socket, seconds: float) -> list[bytes]:
    """What is told until nothing is for so long."""
    told = []
    manager.settimeout(seconds)
    try:
        while True:
            told.append(manager.recv(100))
    except TimeoutError:
        manager.settimeout(60)
        return told


def healthy() -> list[str]:
    return []


def test_ready_alive_stopping(manager: socket.socket) -> None:
    with Notifier(ServiceManager(manager.getsockname(), 0.02), healthy) as notifier:
        notifier.ready()
        assert [manager.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    left = silence(manager, 0.1)
    assert set(left) <= {b"WATCHDOG=1", b"STOPPING=1"}
    assert left.count(b"STOPPING=1") == 1


def test_a_loop_that_is_stuck_starves_the_watchdog(manager: socket.socket, caplog) -> None:
    reasons: list[str] = []
    with (
        caplog.at_level(logging.ERROR),
        Notifier(ServiceManager(manager.getsockname(), 0.02), lambda: reasons) as notifier,
    ):
        notifier.ready()
        assert manager.recv(100) == b"READY=1"
        reasons.append("the outbox writer does not turn")
        assert set(silence(manager, 1.0)) <= {b"WATCHDOG=1"}
        reasons.clear()
        assert manager.recv(100) == b"WATCHDOG=1"
    assert "the watchdog is not fed: the outbox writer does not turn" in caplog.messages


def test_without_a_watchdog_it_is_not_fed(manager: socket.socket) -> None:
    with Notifier(ServiceManager(manager.getsockname()), healthy) as notifier:
        notifier.ready()
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0streamguard-test-{os.getpid()}")
        end.settimeout(60)
        with Notifier(ServiceManager(f"@streamguard-test-{os.getpid()}"), healthy) as notifier:
            notifier.ready()
            assert end.recv(100) == b"READY=1"


def test_a_manager_that_is_not_there_stops_nothing(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING), Notifier(ServiceManager(str(tmp_path / "gone")), healthy) as notifier:
        notifier.ready()
    assert "was not told READY=1: No such file or directory" in caplog.text


def test_without_a_manager_nothing_is_told() -> None:
    with Notifier(ServiceManager(), healthy) as notifier:
        notifier.ready()


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ServiceManager()),
        ({"NOTIFY_SOCKET": "/run/x"}, ServiceManager("/run/x")),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, ServiceManager("/run/x", 30.0)),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, ServiceManager(None, 0.5)),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, ServiceManager()),
        ({"WATCHDOG_USEC": "often"}, ServiceManager()),
        ({"WATCHDOG_USEC": "0"}, ServiceManager()),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], found: ServiceManager) -> None:
    assert service_manager(environ) == found


def test_the_command_tells_it(spawn, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with spawn("watch", "demo:?duration=3600", "--listen", "none") as process:
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        while (told := manager.recv(100)) != b"STOPPING=1":
            assert told == b"WATCHDOG=1"
        process.communicate(timeout=60)
    assert process.returncode == 0
