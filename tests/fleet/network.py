"""Machines in network namespaces, joined by a bridge whose cables can be pulled (ip-netns(8), veth(4)). Needs root."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

import pytest


def require() -> None:
    """Skip the test where no namespace can be made; fail in CI as root, where one is promised."""
    if shutil.which("ip") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs `ip`, Debian's iproute2")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    probe = f"sg{secrets.token_hex(3)}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", probe], check=True)


@dataclass
class Network:
    """``names``: a namespace for each, that reaches this machine at :attr:`here`; no other network is touched."""

    names: tuple[str, ...]
    tag: str = field(default_factory=lambda: secrets.token_hex(2))

    def __post_init__(self) -> None:
        self._net = f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        self._stack = ExitStack()

    @property
    def here(self) -> str:
        """This machine's address."""
        return f"{self._net}.1"

    def address(self, name: str) -> str:
        """A namespace's address."""
        return f"{self._net}.{self.names.index(name) + 2}"

    def prefix(self, name: str) -> list[str]:
        """What a command is run by, to run there."""
        return ["ip", "netns", "exec", f"sg{self.tag}{name}"]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            bridge = f"sgb{self.tag}"
            _ip("link", "add", bridge, "type", "bridge")
            stack.callback(_ip, "link", "del", bridge)
            _ip("addr", "add", f"{self.here}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            for name in self.names:
                space, cable = f"sg{self.tag}{name}", self._cable(name)
                _ip("netns", "add", space)
                stack.callback(_ip, "netns", "del", space)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "set", cable, "master", bridge, "up")
                _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
                _ip("-n", space, "link", "set", "eth0", "up")
                _ip("-n", space, "link", "set", "lo", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def pull(self, name: str) -> None:
        """Nothing comes or goes any more; nobody is told."""
        _ip("link", "set", self._cable(name), "down")

    def plug(self, name: str) -> None:
        """The cable is in again."""
        _ip("link", "set", self._cable(name), "up")

    def _cable(self, name: str) -> str:
        return f"sgv{self.tag}{name}"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
