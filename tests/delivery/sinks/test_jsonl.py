"""JSON Lines: whole lines, at once, and a named error when they can't be written."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import stat
import sys
from pathlib import Path

import pytest

from streamguard.delivery.sinks import SinkClosed, SinkError
from streamguard.delivery.sinks.jsonl import JsonLines, JsonlSettings, JsonlSink, Rotation
from streamguard.errors import UsageError

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


def lines_of(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_full_file_gives_way_and_some_stay(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonLines(path, Rotation(max_bytes=40, keep=2)) as lines:
        for count in range(10):
            lines.write({"id": f"a/{count}"})
    assert lines_of(path) == ["a/9"]
    assert lines_of(tmp_path / "events.jsonl.1") == ["a/6", "a/7", "a/8"]
    assert lines_of(tmp_path / "events.jsonl.2") == ["a/3", "a/4", "a/5"]
    assert len(list(tmp_path.iterdir())) == 3


def test_it_goes_on_filling_the_file_of_an_earlier_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for count in range(4):
        with JsonLines(path, Rotation(max_bytes=40, keep=1)) as lines:
            lines.write({"id": f"a/{count}"})
    assert lines_of(path) == ["a/3"]
    assert lines_of(tmp_path / "events.jsonl.1") == ["a/0", "a/1", "a/2"]


def test_none_need_be_kept_and_a_long_line_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonLines(path, Rotation(max_bytes=20, keep=0)) as lines:
        for name in ("a/0", "b" * 100, "a/1"):
            lines.write({"id": name})
            assert lines_of(path) == [name]
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_file_that_was_taken_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonLines(path, Rotation(max_bytes=1000, keep=1)) as lines:
        lines.write({"id": "a/0"})
        path.rename(tmp_path / "elsewhere")
        lines.write({"id": "a/1"})
        path.unlink()
        lines.write({"id": "a/2"})
    assert lines_of(tmp_path / "elsewhere") == ["a/0"]
    assert lines_of(path) == ["a/2"]


def batch(*names: str) -> list[dict[str, str]]:
    return [{"source": "/streamguard/studio/door", "id": name} for name in names]


def test_the_sink_appends_batches(tmp_path: Path) -> None:
    sink = JsonlSettings("file", "jsonl", str(tmp_path / "e.jsonl")).make({})

    async def use() -> None:
        await sink.open()
        await sink.deliver(batch("a/0", "a/1"))
        await sink.close()
        await sink.open()
        await sink.deliver(batch("a/2"))
        await sink.close()
        await sink.close()

    asyncio.run(use())
    assert sink.name == "file"
    assert lines_of(tmp_path / "e.jsonl") == ["a/0", "a/1", "a/2"]


def test_lines_of_a_batch_that_failed_are_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    sink = JsonlSink("file", path, durable=True)
    whole = batch("a/0", "a/1", "a/2", "a/3")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def use() -> None:
        await sink.open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (130, hard))
        try:
            with pytest.raises(SinkError, match="did not take event 'a/2': File too large"):
                await sink.deliver(whole)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await sink.close()
        await sink.open()
        await sink.deliver(whole)
        await sink.close()

    asyncio.run(use())
    text = path.read_text().splitlines()
    assert len(text) == 5, "the line that was cut, and four whole ones"
    assert [json.loads(line)["id"] for line in (*text[:2], *text[3:])] == ["a/0", "a/1", "a/2", "a/3"]


def test_a_folder_that_is_not_there_is_refused_at_start(tmp_path: Path) -> None:
    settings = JsonlSettings("file", "jsonl", str(tmp_path / "nowhere" / "e.jsonl"))
    with pytest.raises(UsageError, match=r"sink 'file': there is no folder '.*nowhere'\. Make it, or name"):
        settings.make({})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"max_bytes": 0}, "max_bytes is 0; expected 1 or more"), ({"keep": -1}, "keep is -1; expected 0 or more files")],
)
def test_settings_that_make_no_sense(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonlSettings("file", "jsonl", "e.jsonl", **wrong)
