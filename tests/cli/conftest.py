"""The command as a user runs it: in this process, or as one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamguard.cli import app
from streamguard.cli import logs as cli_logs

COMMAND = [sys.executable, "-c", "from streamguard.cli import main; main()"]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    cli_logs.tear_down()


@pytest.fixture
def streamguard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMGUARD_LISTEN", "127.0.0.1:0")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


class _Process(subprocess.Popen[str]):
    """Ends with the test: one that fails inside ``with`` waits for nobody."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


@pytest.fixture
def spawn(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command as a process, in an empty folder, with pipes to read from."""

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = os.environ | {
            "TERM": "xterm",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "STREAMGUARD_LISTEN": "127.0.0.1:0",
        }
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return _Process([*COMMAND, *arguments], cwd=tmp_path, env=environment, text=True, **streams)

    return start
