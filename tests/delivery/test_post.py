"""The post as a whole: real files, a real full disk, a real read-only one, a wrong clock."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamguard.delivery.dispatch import Consumer
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.post import posting
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.errors import OutboxRefused
from tests.delivery.making import MEBIBYTE, Listed, Made, deliveries, fresh_metrics, until

SETTINGS = OutboxSettings(max_bytes=64 * MEBIBYTE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def never(name: str) -> None:
    raise AssertionError(f"{name} was closed")


def fill_up(folder: Path) -> Path:
    """A file that takes all the room there is."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return path


def test_events_reach_every_kind_of_sink_and_the_file_is_empty_afterwards(tmp_path: Path) -> None:
    listed, metrics, made = Listed(), fresh_metrics(), Made()
    file = JsonlSettings("file", "jsonl", str(tmp_path / "e.jsonl")).make({})
    consumers = [Consumer(listed), Consumer(file, patience=None)]
    with posting(tmp_path / "o.db", SETTINGS, consumers, metrics, never) as post:
        sent = [made.up() for _ in range(300)]
        for event in sent:
            post.take(event)
        assert post.stuck() == []
    assert listed.taken == sent
    assert [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()] == sent
    assert post.lost == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.jsonl", "o.db", "o.db.lock"]


def test_a_file_in_use_starts_nothing(tmp_path: Path) -> None:
    with posting(tmp_path / "o.db", SETTINGS, [], fresh_metrics(), never):
        second = posting(tmp_path / "o.db", SETTINGS, [], fresh_metrics(), never)
        with pytest.raises(OutboxRefused, match="in use by another StreamGuard"):
            second.__enter__()
    with posting(tmp_path / "o.db", SETTINGS, [], fresh_metrics(), never):
        pass


def test_the_disk_fills_up_and_events_go_on(small_disk: Path, caplog) -> None:
    listed, metrics, made = Listed(), fresh_metrics(), Made()
    value = metrics.registry.get_sample_value
    with (
        caplog.at_level(logging.WARNING),
        posting(small_disk / "o.db", SETTINGS, [Consumer(listed)], metrics, never) as post,
    ):
        sent = [made.segment("updated", number) for number in range(20)]
        for event in sent:
            post.take(event)
        until(lambda: len(listed.taken) == 20)
        ballast = fill_up(small_disk)
        for number in range(20, 620):
            sent.append(made.segment("updated", number))
            post.take(sent[-1])
        until(lambda: len(listed.taken) == 620)
        until(lambda: (value("streamguard_outbox_commits_total", {"outcome": "failed"}) or 0) > 0)
        assert post.stuck() == []
        ballast.unlink()
        until(lambda: "the outbox is written again" in caplog.text)
        sent.append(made.up())
        post.take(sent[-1])
    assert listed.taken == sent
    assert post.lost == 0
    assert "takes nothing: database or disk is full. Make room there. Events go out from memory" in caplog.text


def test_a_full_disk_is_no_reason_not_to_start(small_disk: Path, caplog) -> None:
    fill_up(small_disk)
    listed, made = Listed(), Made()
    with (
        caplog.at_level(logging.ERROR),
        posting(small_disk / "o.db", SETTINGS, [Consumer(listed)], fresh_metrics(), never) as post,
    ):
        sent = [made.up() for _ in range(10)]
        for event in sent:
            post.take(event)
    assert listed.taken == sent
    assert "Events are kept in memory until the next start." in caplog.text


def test_a_read_only_folder_starts_nothing_and_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = posting(small_disk / "o.db", SETTINGS, [], fresh_metrics(), never)
    with pytest.raises(OutboxRefused, match=r"o\.db' can't be written: Read-only file system\. Name another by"):
        refused.__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    refused = posting(tmp_path / "shut" / "o.db", SETTINGS, [], fresh_metrics(), never)
    with pytest.raises(OutboxRefused, match="Permission denied"):
        refused.__enter__()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_makes_no_event_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """A tenth of an hour as the age of dead letters: were the time of day read, the jump would make all of them old,
    or those to come never."""
    listed, metrics, made = Listed("hook"), fresh_metrics(), Made()
    listed.away(True)
    settings = OutboxSettings(max_age=360.0)
    wrong = time.time() + jump
    with posting(tmp_path / "o.db", settings, [Consumer(listed)], metrics, never) as post:
        for _ in range(5):
            post.take(made.up())
        until(lambda: listed.tried > 0)
        monkeypatch.setattr(time, "time", lambda: wrong)
        monkeypatch.setattr(time, "time_ns", lambda: int(wrong * 1e9))
        for _ in range(5):
            post.take(made.up())
        listed.away(False)
        until(lambda: len(listed.taken) == 10)
    assert deliveries(metrics, "hook", "dead") == 0
    assert listed.taken == sorted(listed.taken, key=lambda event: event["data"]["session"])
