"""Retention and room, step by step on a clock of the test's own."""

from __future__ import annotations

from pathlib import Path

from streamguard.delivery.retention import Kept, Retention, Room


def kept(*ages, size=10):
    """Folders written at these times, named by them."""
    return [Kept(Path(f"{age:g}"), age, size) for age in ages]


def names(due):
    return [one.folder.name for one in due]


def test_the_old_go_and_the_oldest_first():
    policy = Retention(max_age=100.0, max_bytes=1000)
    folders = kept(30.0, 10.0, 20.0)
    assert names(policy.due(folders, now=110.0)) == []
    assert names(policy.due(folders, now=110.1)) == ["10"]
    assert names(policy.due(folders, now=121.0)) == ["10", "20"]
    assert names(policy.due(folders, now=500.0)) == ["10", "20", "30"]


def test_the_oldest_go_until_the_rest_fits():
    policy = Retention(max_age=1e9, max_bytes=30)
    assert names(policy.due(kept(1.0, 2.0, 3.0), now=4.0)) == []
    assert names(policy.due(kept(4.0, 1.0, 2.0, 3.0), now=4.0)) == ["1"]
    assert names(policy.due(kept(1.0, 2.0, 3.0), now=4.0, incoming=11)) == ["1", "2"]
    assert names(policy.due(kept(1.0, 2.0, 3.0), now=4.0, incoming=1000)) == ["1", "2", "3"]


def test_nothing_is_kept_of_nothing():
    assert Retention(1.0, 0).due([], now=10.0) == []
    assert names(Retention(1e9, 0).due(kept(1.0), now=2.0)) == ["1"]


def test_a_clock_that_was_set_back_deletes_nothing():
    assert Retention(100.0, 1000).due(kept(5000.0), now=10.0) == []


def test_the_reserve_is_left_to_others():
    room = Room(reserve=100)
    assert room.refusal(free=200, need=100, now=0.0) is None
    assert room.refusal(free=199, need=100, now=0.0) == "disk full"
    assert room.refusal(free=200, need=100, now=0.0) is None, "there is room again"


def test_after_an_error_evidence_waits():
    room = Room(reserve=0, retry=30.0)
    room.failed("disk error", now=100.0)
    assert room.refusal(free=10**9, need=1, now=129.0) == "disk error"
    assert room.refusal(free=10**9, need=1, now=130.0) is None
    assert room.refusal(free=10**9, need=1, now=101.0) is None, "one good moment ends it"
