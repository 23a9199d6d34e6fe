"""Machines of a Ray cluster, each a set of real processes on this one, that can be killed, cut off and started again.

>>> with Machines(folder) as machines:                                     # doctest: +SKIP
...     machines.start("a"), machines.start("b")
...     machines.kill("b")
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError

import pytest

from streamguard.server.auth import Role, TokenFile
from tests.rtsp_server import free_port

COMMAND = [sys.executable, "-c", "from streamguard.cli import main; main()"]
_MARK = "STREAMGUARD_TEST_MACHINE"
_STORE = 78_643_200  # bytes; the least object store that Ray starts with
HEALTH = {"period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 5, "initial_delay_ms": 1000}
"""Ray's health checks as the tests set them: a node is dead after 5 checks, one a second, that failed."""


def require() -> None:
    """Skip the test where there is no Ray, but fail in CI, where it is promised."""
    if find_spec("ray") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs Ray: pip install 'streamguard[fleet]'")


@dataclass
class Machine:
    """One machine: its address, the command that runs others there, and what is in their environment. With ``cpus`` 0
    it watches nothing."""

    name: str
    mark: str
    address: str = "127.0.0.1"
    prefix: Sequence[str] = ()
    cpus: int = 1
    extra: Mapping[str, str] = field(default_factory=dict)

    def processes(self) -> list[int]:
        """All processes that were started on it."""
        found = []
        needle = f"{_MARK}={self.mark}\0".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if needle in (entry / "environ").read_bytes() + b"\0":
                        found.append(int(entry.name))
                except (OSError, ValueError):
                    continue
        return found

    def environment(self) -> dict[str, str]:
        return os.environ | {_MARK: self.mark} | dict(self.extra)


@dataclass
class Machines:
    """A cluster: the head is the first that is started. ``folder`` should have a short name: sockets lie in it.

    ``settings``: of Ray, beside :data:`HEALTH`.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    machines: dict[str, Machine] = field(default_factory=dict)
    head: str | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    def __enter__(self) -> Self:
        require()
        return self

    def __exit__(self, *exception: object) -> None:
        for name in self.machines:
            self.kill(name)

    def start(
        self,
        name: str,
        *,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        cpus: int = 1,
    ) -> Machine:
        """Start Ray there; returns once it is part of the cluster."""
        self.head = self.head or name
        machine = self.machines[name] = Machine(name, uuid.uuid4().hex, address, prefix, cpus)
        health = {f"RAY_health_check_{key}": str(value) for key, value in HEALTH.items()}
        store = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / "gcs")}
        quiet = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        }
        quiet |= {"RAY_worker_niceness": "0"}  # Ray's own is 15: any other program would go first
        quiet |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        paths = {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_gcs_rpc_server_reconnect_timeout_s": "300"}
        machine.extra = health | store | quiet | paths | dict(self.settings)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-name={name}", f"--num-cpus={cpus}"]
        command += [
            f"--object-store-memory={_STORE}",
            f"--temp-dir={self.folder / name}",
            "--include-log-monitor=false",
        ]
        command += [f"--node-ip-address={address}"]
        if name == self.head:
            command += ["--head", f"--port={self.port}", "--include-dashboard=false", "--disable-usage-stats"]
        else:
            command += [f"--address={self.machines[self.head].address}:{self.port}"]
        done = subprocess.run(
            [*prefix, *command], env=machine.environment(), capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, f"machine '{name}' did not start: {done.stdout}{done.stderr}"
        return machine

    def again(self, name: str) -> Machine:
        """Start a machine that was killed. All machines are this one here: Ray would take what other nodes were started
        with, and the note of its last start, for a head that runs."""
        (self.folder / name / "ray_current_cluster").unlink(missing_ok=True)
        before = self.machines[name]
        return self.start(name, address=before.address, prefix=before.prefix, cpus=before.cpus)

    def kill(self, name: str) -> None:
        """SIGKILL to all that runs there, at once, as if the power went."""
        machine = self.machines[name]
        while found := machine.processes():
            for process in found:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    @staticmethod
    def commands(machine: Machine) -> list[str]:
        """The programs that run on a machine."""
        found = []
        for process in machine.processes():
            try:
                found.append((Path("/proc") / str(process) / "cmdline").read_bytes().split(b"\0")[0].decode())
            except OSError:
                continue
        return found

    def spawn(self, name: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The `streamguard` command on a machine."""
        machine = self.machines[name]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(
            [*machine.prefix, *COMMAND, *arguments], env=machine.environment(), cwd=self.folder, text=True, **streams
        )


class FleetClient:
    """Asks a head how its fleet stands."""

    def __init__(self, base: str, token: str) -> None:
        self.base = base
        self._token = token

    def state(self, node: str | None = None) -> dict[str, Any] | None:
        """The fleet; None if the head does not answer."""
        query = "" if node is None else f"?node={node}"
        request = urllib.request.Request(
            f"{self.base}/api/v1/fleet{query}", headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except HTTPError:
            raise
        except OSError:
            return None

    def until(self, condition: Callable[[dict[str, Any]], object], limit: float = 240.0) -> dict[str, Any]:
        """Wait for the fleet to stand so; how it stands then."""
        deadline = time.monotonic() + limit
        while True:
            state = self.state()
            if state is not None and condition(state):
                return state
            assert time.monotonic() < deadline, f"not within {limit} s; the fleet stands so: {json.dumps(state)}"
            time.sleep(0.2)


def owners(state: Mapping[str, Any]) -> dict[str, str | None]:
    """Stream: node, of those that are running."""
    return {each["name"]: each["node"] for each in state["streams"] if each["reason"] is None}


def token(folder: Path) -> str:
    """A token for the API; the configuration names ``folder``/tokens.json."""
    return TokenFile(folder / "tokens.json").add("anna", Role.VIEWER)


def events(folder: Path) -> list[dict[str, Any]]:
    """Everything that the nodes' JSON Lines sinks have, rotated files too."""
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl*")) for line in path.read_text().splitlines()]
