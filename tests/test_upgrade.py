"""What an earlier release left on a box starts in this one: its configuration, and its outbox as it was."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streamguard.delivery.events import event_schema
from streamguard.version import __version__
from tests.upgrade.make import SINK, make_outbox

HERE = Path(__file__).parent
RELEASES = sorted(path.parent.name for path in (HERE / "upgrade").glob("*/outbox.db"))
COMMAND = [sys.executable, "-c", "from streamguard.cli import main; main()"]


@pytest.fixture(params=RELEASES)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What that release left."""
    return shutil.copytree(HERE / "upgrade" / request.param, tmp_path / "box")


def ran(box: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "MADE": "demo:?seed=2&duration=4&pace=0"}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=box, env=environment, capture_output=True, text=True, check=False, timeout=250
    )


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_release_left_something() -> None:
    assert __version__ in RELEASES, "python -m tests.upgrade.make tests/upgrade/VERSION, before a release"


def test_its_configuration_is_right(box: Path) -> None:
    done = ran(box, "config", "check", "streamguard.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("streamguard.yaml: right, 2 streams, 1 sink")


def test_it_runs_and_delivers_what_waited(box: Path) -> None:
    expected = json.loads((box / "expected.json").read_text(encoding="utf-8"))
    done = ran(box, "watch", "--config", "streamguard.yaml", "--listen", "none", "--evidence", "evidence")
    assert done.returncode == 0, done.stderr
    archived = events(box / "events.jsonl")
    ids = [event["id"] for event in archived]
    waiting = expected["pending"]
    assert ids[: len(waiting)] == waiting
    assert not set(ids) & {*expected["delivered"], *expected["dead"]}
    closings = [event for event in archived if event["data"].get("reason") == "restart"]
    assert [event["data"]["segment_id"] for event in closings] == expected["open"]
    assert ids.index(closings[0]["id"]) == len(waiting), "closed before anything new"
    started = {event["data"]["stream"] for event in archived[len(waiting) :] if ".stream.up." in event["type"]}
    assert started == {"made", "file"}
    check = Draft202012Validator(event_schema())
    for event in archived:
        check.validate(event)
    with closing(sqlite3.connect(box / "outbox.db")) as left:
        assert left.execute("SELECT sink FROM dead").fetchall() == [(SINK,)]
        assert left.execute("SELECT count(*) FROM event_kept").fetchone() == (0,)


def test_the_fixture_of_this_release_is_what_it_writes(tmp_path: Path) -> None:
    """Else a change of the file would go by unseen until a user meets it."""
    kept = HERE / "upgrade" / __version__
    assert make_outbox(tmp_path / "outbox.db") == json.loads((kept / "expected.json").read_text(encoding="utf-8"))

    def laid(path: Path) -> list[Any]:
        with closing(sqlite3.connect(path)) as file:
            tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            shape = file.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
            version = file.execute("PRAGMA user_version").fetchone()
            return [shape, version, *(file.execute(f"SELECT * FROM {table}").fetchall() for table in sorted(tables))]

    assert laid(tmp_path / "outbox.db") == laid(kept / "outbox.db")
