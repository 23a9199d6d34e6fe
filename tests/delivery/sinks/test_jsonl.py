"""JSON Lines: whole lines, at once, and a named error when they can't be written."""

from __future__ import annotations

import io
import json
import os
import resource
import stat
import sys
from pathlib import Path

import pytest

from streamguard.delivery.sinks import SinkClosed, SinkError
from streamguard.delivery.sinks.jsonl import JsonLines

EVENT = {"id": "a/0", "data": {"stream": "Tür\n1"}}


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonLines(path) as sink:
        for count in range(1, 4):
            sink.write(EVENT)
            assert path.read_text(encoding="utf-8").splitlines() == ['{"id":"a/0","data":{"stream":"Tür\\n1"}}'] * count


def test_it_appends(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for name in ("first", "second"):
        with JsonLines(str(path)) as sink:
            sink.write({"id": name})
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["first", "second"]


def test_a_torn_last_line_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"id":"whole"}\n{"id":"to', encoding="utf-8")
    with JsonLines(path) as sink:
        sink.write({"id": "next"})
        sink.write({"id": "last"})
    assert path.read_text().splitlines() == ['{"id":"whole"}', '{"id":"to', '{"id":"next"}', '{"id":"last"}']


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with JsonLines("-") as sink:
        sink.write({"id": "a/0"})
    assert raw.getvalue() == b'{"id":"a/0"}\n'
    assert not raw.closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_and_the_sink_lives_on() -> None:
    with JsonLines("/dev/full") as sink:
        for _ in range(2):
            with pytest.raises(SinkError, match="'/dev/full' did not take event 'a/0': No space left"):
                sink.write(EVENT)


def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLines(path) as sink:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            with pytest.raises(SinkError, match="event 'cut'"):
                sink.write({"id": "cut", "data": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sink.write({"id": "next"})
    assert path.read_text().splitlines() == ['{"id":"cut","data":"', '{"id":"next"}']


def test_a_reader_that_does_not_keep_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        sink = JsonLines("-")
        with pytest.raises(SinkError, match="'-' did not take event 'big': its reader does not keep up"):
            sink.write({"id": "big", "data": "x" * 1_000_000})
        os.read(reader, 1 << 20)
        sink.write({"id": "next"})
        assert os.read(reader, 1 << 16) == b'\n{"id":"next"}\n'
    os.close(reader)


def test_a_closed_pipe_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLines(path) as sink:
        os.close(reader)
        with pytest.raises(SinkClosed, match="no reader any more"):
            sink.write(EVENT)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"nowhere/e.jsonl' can't take events: No such file .* existing folder"):
        JsonLines(tmp_path / "nowhere" / "e.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    path.chmod(stat.S_IRUSR)
    with pytest.raises(SinkError, match="Permission denied"):
        JsonLines(path)


def test_a_score_that_is_no_number_never_becomes_invalid_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonLines(path) as sink, pytest.raises(ValueError, match="JSON compliant"):
        sink.write({"id": "a/0", "score": float("nan")})
    assert path.read_bytes() == b""
