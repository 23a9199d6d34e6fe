"""outbox: dead letters listed, shown, tried once more and dropped, by the command."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from streamguard.delivery.backlog import Rank, Row
from streamguard.delivery.store import Dead, Work
from streamguard.delivery.vault import open_store
from tests.delivery.making import MEBIBYTE, Made
from tests.serving import until


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """Three dead letters of two sinks."""
    made, path = Made(), tmp_path / "o.db"
    store = open_store(path, MEBIBYTE)
    letters = [
        Dead(sink, Row(number, 0.0, Rank.KEPT, json.dumps(made.up())), reason)
        for sink, number, reason in (
            ("hook", 4, "HTTP 422"),
            ("hook", 9, "said \\x1b[2J\x1b[2J[red]"),
            ("bus", 9, "too large"),
        )
    ]
    store.commit(Work(dead=letters, last=9))
    store.close()
    return path


def test_list_and_show(streamguard, outbox):
    listed = streamguard("outbox", "list", "--file", "o.db")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["4", "hook", "stream.up"],
        ["9", "hook", "stream.up"],
        ["9", "bus", "stream.up"],
    ]
    assert lines[0].endswith("/streamguard/studio/door/r7.1/up@1.000  HTTP 422")
    assert "\x1b" not in listed.stdout
    assert "[red]" in listed.stdout, "what a far side said is no markup"
    assert "bus" not in streamguard("outbox", "list", "--sink", "hook", "--file", "o.db").stdout
    shown = streamguard("outbox", "show", "4", "--file", "o.db")
    assert json.loads(shown.stdout)["type"] == "streamguard.stream.up.v1"
    (letter,) = streamguard("outbox", "list", "--sink", "bus", "--json", "--file", "o.db").stdout.splitlines()
    told = json.loads(letter)
    assert (told["number"], told["sink"], told["reason"], told["again"]) == (9, "bus", "too large", False)
    assert told["event"]["type"] == "streamguard.stream.up.v1"


def test_retry_and_drop(streamguard, outbox):
    assert streamguard("outbox", "retry", "4", "--file", "o.db").stdout == "1 dead letter will be tried once more.\n"
    assert "(to be tried once more)" in streamguard("outbox", "list", "--file", "o.db").stdout.splitlines()[0]
    assert streamguard("outbox", "retry", "--all", "--file", "o.db").stdout.startswith("2 dead letters will be")
    assert streamguard("outbox", "drop", "9", "--sink", "bus", "--file", "o.db").stdout == "1 dead letter dropped.\n"
    assert streamguard("outbox", "drop", "--sink", "hook", "--file", "o.db").stdout == "2 dead letters dropped.\n"
    empty = streamguard("outbox", "list", "--file", "o.db")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "There is no dead letter." in empty.stderr


def test_a_number_that_is_not_there_is_named_and_the_rest_goes_on(streamguard, outbox):
    result = streamguard("outbox", "drop", "4", "5", "--file", "o.db")
    assert result.exit_code == 1
    assert result.stdout == "1 dead letter dropped.\n"
    assert "there is no dead letter 5. Look at `list`." in result.stderr
    result = streamguard("outbox", "show", "9", "--sink", "lake", "--file", "o.db")
    assert result.exit_code == 1
    assert "there is no dead letter 9 of sink 'lake'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list",), "Which outbox?"),
        (("list", "--file", "nowhere.db"), "there is no outbox 'nowhere.db'"),
        (("list", "--file", "text"), "'text' is no outbox of StreamGuard"),
        (("drop", "--file", "o.db"), "Which dead letters?"),
        (("retry", "4", "--all", "--file", "o.db"), "Which dead letters?"),
        (("drop", "four", "--file", "o.db"), "Invalid value for"),
    ],
)
def test_wrong_use(streamguard, outbox, tmp_path, arguments, message):
    (tmp_path / "text").write_text("my diary\n")
    result = streamguard("outbox", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(streamguard("outbox", "list", "--file", "o.db").stdout.splitlines()) == 3, "nothing was done"


class Receiver(BaseHTTPRequestHandler):
    """Refuses every event until it is set right."""

    right = False
    taken: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.right:
            self.taken.append(event["id"])
        self.send_response(204 if self.right else 422)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_letter_is_tried_again_by_the_streamguard_that_runs(spawn, streamguard, receiver, tmp_path):
    """A receiver refuses what it gets; once it is set right, `retry` is enough, beside the run."""
    (tmp_path / "c.yaml").write_text(
        f"sinks: [{{name: hook, type: webhook, url: 'http://127.0.0.1:{receiver.server_port}/hook'}}]\n"
        "outbox: {path: o.db}\nlisten: null\nstreams: [{name: made, uri: 'demo:?duration=3600'}]\n"
    )

    def letters() -> list[dict[str, Any]]:
        if not (tmp_path / "o.db").exists():
            return []
        listed = streamguard("outbox", "list", "--json", "--config", "c.yaml")
        return [json.loads(line) for line in listed.stdout.splitlines()]

    with spawn("watch", "--config", "c.yaml", stderr=subprocess.DEVNULL) as process:
        until(letters)
        dead = letters()[0]
        Receiver.right = True
        assert streamguard("outbox", "retry", dead["number"], "--config", "c.yaml").exit_code == 0
        until(lambda: dead["event"]["id"] in Receiver.taken)
        until(lambda: dead["number"] not in [letter["number"] for letter in letters()])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
