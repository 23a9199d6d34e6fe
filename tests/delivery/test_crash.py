"""The delivery, killed at random moments. `python benchmarks/crash.py` does it fifty times."""

from __future__ import annotations

from pathlib import Path

from benchmarks.crash import crash


def test_nothing_that_was_committed_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    report = crash(tmp_path, rounds=4, seed=7)
    assert report.problems == []
    assert report.seen_before_a_kill > 0
    assert report.in_the_archive >= report.seen_before_a_kill
    assert report.segments > 0
