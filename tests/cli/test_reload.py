"""SIGHUP: streams come and go with the file, the others go on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from streamguard.cli.reload import Reloader, fixed_changes, reloaded_by_signal, stream_changes
from streamguard.config import Config, StreamConfig, load_config
from streamguard.delivery.sinks.jsonl import JsonlSettings

A, B, C = (StreamConfig(name=name, uri=f"{name}.mp4") for name in "abc")


def test_changes_are_what_differs():
    moved = StreamConfig(name="b", uri="elsewhere.mp4")
    changes = stream_changes(Config(streams=(A, B)), Config(streams=(moved, A, C)))
    assert changes.removed == ("b",)
    assert changes.added == (moved, C)


def test_the_same_streams_change_nothing():
    assert stream_changes(Config(streams=(A, B)), Config(streams=(B, A))) == ((), ())


def test_what_is_read_at_start_alone_is_told_apart():
    before = Config(node="a", streams=(A,), listen=None)
    assert fixed_changes(before, Config(node="a", streams=(B,), listen=None)) == []
    sinks = (JsonlSettings("file", "jsonl", "e.jsonl"),)
    assert fixed_changes(before, Config(node="b", streams=(A,), listen=None, sinks=sinks)) == ["node", "sinks"]


class Watched:
    """What a reloader does to a Guard."""

    def __init__(self):
        self.names = ["a"]

    def add(self, source):
        self.names.append(source.name)

    def remove(self, name):
        self.names.remove(name)


def test_a_mistake_in_the_file_changes_nothing_and_is_logged(tmp_path, caplog):
    path = tmp_path / "streamguard.yaml"
    path.write_text("streams: [{name: a, uri: a.mp4}]")
    guard = Watched()
    reloader = Reloader(path, load_config(path), guard)
    path.write_text("streams: [{name: b, uri: 'gopher://x'}]")
    reloader()
    path.write_text("streams: [{name: b, url: b.mp4}]")
    reloader()
    assert guard.names == ["a"]
    assert "unknown scheme 'gopher://'" in caplog.text
    assert "'streams[0].url' is not known" in caplog.text
    path.write_text("streams: [{name: b, uri: b.mp4}]")
    reloader()
    assert guard.names == ["b"]
    path.write_text("streams: [{name: b, uri: b.mp4}]\noutbox: {max_age: 60.0}")
    reloader()
    assert "changed, and taken up at the next start alone: outbox" in caplog.text


def test_the_handler_of_before_comes_back():
    before = signal.getsignal(signal.SIGHUP)
    with reloaded_by_signal(Reloader("absent.yaml", Config(), Watched())):
        assert signal.getsignal(signal.SIGHUP) is not before
    assert signal.getsignal(signal.SIGHUP) is before


@pytest.mark.slow
def test_the_command_takes_up_a_new_stream_and_lets_one_go(tmp_path):
    path, events = tmp_path / "streamguard.yaml", tmp_path / "events.jsonl"
    stays = "{name: stays, uri: 'demo:?duration=600'}"
    path.write_text(f"streams: [{stays}, {{name: goes, uri: 'demo:?duration=600'}}]")
    command = [sys.executable, "-c", "from streamguard.cli import main; main()", "watch", "--config", str(path)]
    options = ["--events", str(events), "--listen", "none", "--duration", "60"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, env=os.environ)
    try:
        _until(lambda: {"stays", "goes"} <= _told(events, "up"))
        path.write_text(f"streams: [{stays}, {{name: comes, uri: 'demo:?duration=600'}}]")
        process.send_signal(signal.SIGHUP)
        _until(lambda: "comes" in _told(events, "up"))
        assert _told(events, "down") == {"goes"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()


def _told(events, kind):
    text = events.read_text() if events.exists() else ""
    lines = [line for line in text.splitlines() if f'"streamguard.stream.{kind}.v1"' in line]
    return {name for name in ("stays", "goes", "comes") if any(f'"stream":"{name}"' in _dense(line) for line in lines)}


def _dense(line):
    return line.replace(": ", ":")


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
