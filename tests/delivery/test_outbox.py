"""The outbox: committed before it is seen, in order, and nothing forgotten."""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.delivery.letters import Chosen, LetterBox
from streamguard.delivery.outbox import Outbox, OutboxSettings
from streamguard.delivery.store import Store, StoreFailed, Work
from tests.delivery.making import MEBIBYTE, Made, deliveries, fresh_metrics, stored


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class FullDisk:
    """A store whose disk can be full."""

    def __init__(self, store: Store) -> None:
        self.full = False
        self.tried = 0
        self._store = store

    def commit(self, work: Work) -> list[int]:
        self.tried += 1
        if self.full:
            raise StoreFailed("outbox 'o.db' takes nothing: database or disk is full. Make room there.")
        return self._store.commit(work)

    def __getattr__(self, name: str):
        return getattr(self._store, name)


@pytest.fixture
def made() -> Made:
    return Made()


def ids(outbox: Outbox, sink: str, limit: int = 100) -> list[str]:
    return [json.loads(row.body)["id"] for row in outbox.pending(sink, limit)]


def take_all(outbox: Outbox, sink: str) -> list[str]:
    """Everything the sink has not, acknowledged."""
    found = []
    while rows := outbox.pending(sink, 7):
        found += [json.loads(row.body)["id"] for row in rows]
        outbox.acknowledge(sink, rows[-1].sequence)
    return found


def test_no_sink_sees_an_event_before_it_is_committed(tmp_path: Path, made: Made) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["hook"])
    event = made.up()
    outbox.take(event)
    assert outbox.pending("hook", 10) == []
    assert outbox.behind("hook") == 1
    assert outbox.flush()
    assert ids(outbox, "hook") == [event["id"]]
    with sqlite3.connect(f"file:{tmp_path}/o.db?mode=ro", uri=True) as other:
        (body,) = other.execute("SELECT body FROM event_stream").fetchone()
    assert json.loads(body) == event
    outbox.close()


@pytest.mark.parametrize("durable", [True, False])
def test_each_sink_has_its_own_place(tmp_path: Path, made: Made, durable: bool) -> None:
    outbox = stored(tmp_path / "o.db") if durable else Outbox(None, fresh_metrics())
    outbox.register(["fast", "slow"])
    sent = [made.up() for _ in range(20)]
    for event in sent:
        outbox.take(event)
    outbox.flush()
    assert take_all(outbox, "fast") == [event["id"] for event in sent]
    assert ids(outbox, "slow", limit=3) == [event["id"] for event in sent[:3]]
    outbox.acknowledge("slow", 2)
    assert ids(outbox, "slow", limit=1) == [sent[2]["id"]]
    assert (outbox.behind("fast"), outbox.behind("slow")) == (0, 18)
    outbox.close()
    assert outbox.lost == (0 if durable else 18)


def test_after_a_restart_each_sink_goes_on_where_it_was(tmp_path: Path, made: Made) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["a", "b"])
    sent = [made.up()["id"] for _ in range(5)]
    made = Made()
    for _ in sent:
        outbox.take(made.up())
    outbox.flush()
    assert outbox.pending("a", 3)
    outbox.acknowledge("a", 3)
    outbox.close()
    again = stored(tmp_path / "o.db")
    again.register(["a", "b", "new"])
    assert (again.behind("a"), again.behind("b"), again.behind("new")) == (2, 5, 0)
    assert take_all(again, "a") == sent[3:]
    assert take_all(again, "b") == sent
    assert take_all(again, "new") == []
    late = made.up()
    assert again.append(late) == 6
    assert take_all(again, "new") == [late["id"]]
    again.close()


def test_numbers_go_on_though_everything_was_delivered(tmp_path: Path, made: Made) -> None:
    for first in (1, 4):
        outbox = stored(tmp_path / "o.db")
        outbox.register(["a"])
        assert [outbox.append(made.up()) for _ in range(3)] == [first, first + 1, first + 2]
        take_all(outbox, "a")
        outbox.close()


def test_a_sink_that_is_not_configured_any_more_is_forgotten_and_it_is_said(tmp_path: Path, made: Made, caplog) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["stays", "goes", "had all"])
    outbox.append(made.up())
    for name in ("stays", "had all"):
        take_all(outbox, name)
    outbox.close()
    with caplog.at_level(logging.WARNING):
        again = stored(tmp_path / "o.db")
        again.register(["stays"])
    assert caplog.messages == ["sink 'goes' is not configured any more; the 1 events that waited for it go"]
    again.append(made.up())
    take_all(again, "stays")
    again.close()
    third = stored(tmp_path / "o.db")
    third.register(["stays", "goes"])
    assert third.behind("goes") == 0
    third.close()


def test_events_that_all_have_leave_the_disk(tmp_path: Path, made: Made) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["a", "b"], live=["console"])
    for _ in range(10):
        outbox.take(made.up())
    outbox.flush()
    for name in ("a", "b"):
        take_all(outbox, name)
    outbox.flush()
    with sqlite3.connect(f"file:{tmp_path}/o.db?mode=ro", uri=True) as other:
        assert other.execute("SELECT count(*) FROM event_stream").fetchall() == [(10,)]
        take_all(outbox, "console")
        outbox.flush()
        assert other.execute("SELECT count(*) FROM event_stream").fetchall() == [(0,)]
    outbox.close()


def test_open_segments_are_closed_after_a_crash_once(tmp_path: Path, made: Made) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["a"])
    for event in (made.segment("opened", 1), made.segment("opened", 2), made.segment("closed", 1)):
        outbox.append(event)
    outbox.append(made.segment("updated", 2, pts=15.0))
    take_all(outbox, "a")
    outbox.take(made.segment("updated", 2, pts=16.0))  # not committed when the crash comes
    again = stored(tmp_path / "o.db")
    again.register(["a"])
    assert again.recover() == 1
    (row,) = again.pending("a", 10)[-1:]
    event = json.loads(row.body)
    assert event["id"] == "r7.door.1.3.2/1000001"
    assert event["data"]["pts"] == {"start": 12.0, "end": 15.0}
    assert (event["data"]["state"], event["data"]["reason"]) == ("inconclusive", "restart")
    again.close()
    third = stored(tmp_path / "o.db")
    third.register(["a"])
    assert third.recover() == 0
    third.close()


def test_a_full_disk_stops_no_event(tmp_path: Path, made: Made, caplog) -> None:
    clock, metrics = Clock(), fresh_metrics()
    disk = FullDisk(stored(tmp_path / "o.db")._store)
    outbox = Outbox(disk, metrics, clock)
    outbox.register(["quick", "slow"])
    sent = []

    def take(count: int) -> None:
        for _ in range(count):
            event = made.up()
            sent.append(event["id"])
            outbox.take(event)

    take(3)
    outbox.flush()
    disk.full = True
    take(3)
    with caplog.at_level(logging.WARNING):
        assert outbox.flush()
        take(2)
        tried = disk.tried
        assert outbox.flush()
        assert disk.tried == tried, "the disk is left alone for a second"
        assert take_all(outbox, "quick") == sent
        assert metrics.registry.get_sample_value("streamguard_outbox_uncommitted") == 5
        clock.time += 2
        assert not outbox.flush()
        assert disk.tried == tried + 1
        disk.full = False
        clock.time += 2
        take(1)
        outbox.flush()
    assert take_all(outbox, "slow") == sent
    assert take_all(outbox, "quick") == sent[-1:]
    assert metrics.registry.get_sample_value("streamguard_outbox_uncommitted") == 0
    assert metrics.registry.get_sample_value("streamguard_outbox_commits_total", {"outcome": "failed"}) == 2
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "outbox 'o.db' takes nothing",
        "the outbox is written again; 6 events were caught up",
    ]
    outbox.close()
    assert outbox.lost == 0


def test_a_disk_that_stays_full_costs_what_had_not_gone_out(tmp_path: Path, made: Made) -> None:
    metrics = fresh_metrics()
    disk = FullDisk(stored(tmp_path / "o.db")._store)
    outbox = Outbox(disk, metrics)
    outbox.register(["quick", "slow"])
    disk.full = True
    for _ in range(4):
        outbox.take(made.up())
    outbox.flush()
    take_all(outbox, "quick")
    outbox.close()
    assert outbox.lost == 4
    assert (deliveries(metrics, "quick", "lost"), deliveries(metrics, "slow", "lost")) == (0, 4)


def test_segments_that_were_open_while_the_disk_was_full_are_closed_after_a_crash(tmp_path: Path, made: Made) -> None:
    clock = Clock()
    disk = FullDisk(stored(tmp_path / "o.db")._store)
    outbox = Outbox(disk, fresh_metrics(), clock)
    outbox.register(["a"])
    disk.full = True
    for event in (made.segment("opened", 1), made.segment("opened", 2), made.segment("closed", 2)):
        outbox.take(event)
    outbox.flush()
    take_all(outbox, "a")
    outbox.flush()
    disk.full = False
    clock.time += 2
    outbox.flush()
    again = stored(tmp_path / "o.db")
    again.register(["a"])
    assert again.recover() == 1
    assert take_all(again, "a") == ["r7.door.1.3.1/1000000"]
    again.close()


def test_markers_of_segments_have_a_bound_while_the_disk_stays_full(tmp_path: Path, made: Made, caplog) -> None:
    metrics, clock = fresh_metrics(), Clock()
    disk = FullDisk(stored(tmp_path / "o.db")._store)
    outbox = Outbox(disk, metrics, clock, bound=20)
    outbox.register(["a"])

    def take(kind: str, number: int) -> None:
        outbox.take(made.segment(kind, number))
        outbox.flush()
        take_all(outbox, "a")
        clock.time += 2

    disk.full = True
    for number in range(200):  # they come and go: nothing is kept of them
        take("opened", number)
        take("closed", number)
    assert len(outbox._markers) == 0
    with caplog.at_level(logging.ERROR):
        for number in range(200, 225):
            take("opened", number)
    assert len(outbox._markers) == 20
    assert metrics.registry.get_sample_value("streamguard_outbox_unmarked_total") == 5
    assert [message for message in caplog.messages if "a crash would leave segments open" in message] == [
        "a crash would leave segments open: the disk takes nothing, and more segments are open than memory has room for"
    ]
    disk.full = False
    clock.time += 2
    outbox.flush()
    again = stored(tmp_path / "o.db")
    again.register(["a"])
    assert again.recover() == 20
    assert take_all(again, "a") == [f"r7.door.1.3.{number}/1000000" for number in range(200, 220)]
    again.close()
    assert outbox.lost == 0


def test_memory_has_a_bound_and_updates_go_first(made: Made, caplog) -> None:
    metrics = fresh_metrics()
    outbox = Outbox(None, metrics, bound=4)
    outbox.register(["a"])
    events = [made.segment("opened", 1), made.segment("updated", 1), made.up(), made.segment("opened", 2)]
    late = [made.segment("closed", 1), made.segment("updated", 2)]
    with caplog.at_level(logging.ERROR):
        for event in events + late:
            outbox.take(event)
    outbox.flush()
    assert ids(outbox, "a") == [events[0]["id"], events[2]["id"], events[3]["id"], late[0]["id"]]
    assert outbox.behind("a") == 4
    assert outbox.lost == 2
    assert deliveries(metrics, "a", "lost") == 2
    assert caplog.messages == ["events for 'a' are lost: memory is full of events that wait"]


def test_a_full_outbox_lets_updates_go_and_counts_them_where_they_are_missed(tmp_path: Path, made: Made) -> None:
    metrics = fresh_metrics()
    outbox = stored(tmp_path / "o.db", metrics, max_bytes=MEBIBYTE)
    outbox.register(["has all", "away"])
    for number in range(1500):
        outbox.take(made.segment("opened" if number % 3 == 0 else "updated", number // 3 + 1))
        if number % 50 == 49:
            outbox.flush()
            take_all(outbox, "has all")
    assert outbox.lost == deliveries(metrics, "away", "lost") > 0
    assert deliveries(metrics, "has all", "lost") == 0
    left = take_all(outbox, "away")
    assert len(left) == 1500 - outbox.lost
    assert {f"r7.door.1.3.{number}/0" for number in range(1, 501)} <= set(left), "no opened segment went"
    assert outbox.behind("away") == 0
    outbox.close()


def test_a_dead_letter_is_kept_and_waits_for_nobody(tmp_path: Path, made: Made) -> None:
    outbox = stored(tmp_path / "o.db")
    outbox.register(["hook"])
    sent = [made.up()["id"] for _ in range(3)]
    made = Made()
    for _ in sent:
        outbox.take(made.up())
    outbox.flush()
    row, *_ = outbox.pending("hook", 10)
    outbox.bury("hook", row, "it is no good")
    assert take_all(outbox, "hook") == sent[1:]
    outbox.close()
    again = stored(tmp_path / "o.db")
    assert again._store is not None
    assert again._store.dead_letters() == [("hook", 1, "it is no good")]
    again.register(["hook"])
    assert again.behind("hook") == 0
    again.close()


def test_a_letter_is_given_once_and_what_became_of_it_is_written(tmp_path: Path, made: Made) -> None:
    clock = Clock()
    disk = FullDisk(stored(tmp_path / "o.db")._store)
    outbox = Outbox(disk, fresh_metrics(), clock)
    outbox.register(["hook", "bus"], live=["console"])
    for _ in range(3):
        outbox.append(made.up())
    for row in outbox.pending("hook", 10):
        outbox.bury("hook", row, "it is no good")
    outbox.flush()
    assert outbox.letter("hook") is None, "nobody wants one"
    with LetterBox(tmp_path / "o.db") as box:
        assert box.retry(Chosen([1, 3])) == 2
        assert [outbox.letter(sink) for sink in ("bus", "console")] == [None, None]
        first = outbox.letter("hook")
        assert first is not None
        assert first.sequence == 1
        outbox.settle(first, None)
        second = outbox.letter("hook")
        assert second is not None
        assert second.sequence == 3
        outbox.settle(second, "still no good")
        assert outbox.letter("hook") is None, "both are settled, and not written yet"
        disk.full = True
        outbox.flush()
        disk.full = False
        assert outbox.letter("hook") is None, "a disk that takes nothing would have it tried for ever"
        clock.time += 2
        outbox.flush()
        assert outbox.letter("hook") is None
        letters = [(letter.number, letter.reason, letter.again) for letter in box.letters(Chosen())]
        assert letters == [(2, "it is no good", False), (3, "still no good", False)]
        box.retry(Chosen([3]))
        third = outbox.letter("hook")
        assert third is not None
        assert third.sequence == 3, "it can be tried as often as somebody wants"
    outbox.close()


def test_the_clock_of_the_outbox_goes_on_with_the_next_run(tmp_path: Path, made: Made) -> None:
    clock = Clock()
    outbox = Outbox(stored(tmp_path / "o.db")._store, fresh_metrics(), clock)
    outbox.register(["a"])
    assert outbox.now() == 0.0
    clock.time += 500
    outbox.append(made.up())
    outbox.close()
    later = Clock()
    later.time = -7e6  # another machine clock altogether
    again = Outbox(stored(tmp_path / "o.db")._store, fresh_metrics(), later)
    again.register(["a"])
    later.time += 20
    assert again.now() == 520.0
    assert again.now() - again.pending("a", 1)[0].stored == 20.0
    again.close()


def test_what_is_no_json_is_lost_by_name_and_stops_nothing(made: Made, caplog) -> None:
    outbox = Outbox(None, fresh_metrics())
    outbox.register(["a"])
    bad = made.up()
    bad["data"]["session"] = float("nan")
    with caplog.at_level(logging.ERROR):
        outbox.take(bad)
    assert f"event '{bad['id']}' is no JSON and is lost" in caplog.text
    good = made.up()
    outbox.append(good)
    assert ids(outbox, "a") == [good["id"]]
    assert outbox.lost == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_bytes": 1000}, "max_bytes is 1000; expected 1048576 or more"),
        ({"max_age": 0.0}, "max_age is 0.0; expected more than 0 seconds"),
        ({"max_age": float("nan")}, "max_age is nan"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OutboxSettings(**settings)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(["take", "take", "take", "flush", "full", "room", "fast", "slow", "second"]), max_size=60
    )
)
def test_whatever_happens_each_sink_gets_each_event_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    clock, made = Clock(), Made()
    disk = FullDisk(stored(tmp_path_factory.mktemp("any") / "o.db")._store)
    outbox = Outbox(disk, fresh_metrics(), clock)
    outbox.register(["fast", "slow"])
    sent: list[str] = []
    got: dict[str, list[str]] = {"fast": [], "slow": []}

    def some(sink: str, limit: int) -> None:
        rows = outbox.pending(sink, limit)
        got[sink] += [json.loads(row.body)["id"] for row in rows]
        if rows:
            outbox.acknowledge(sink, rows[-1].sequence)

    for step in steps:
        if step == "take":
            event = made.up()
            sent.append(event["id"])
            outbox.take(event)
        elif step == "flush":
            outbox.flush()
        elif step in ("full", "room"):
            disk.full = step == "full"
        elif step == "second":
            clock.time += 1.5
        else:
            some(step, 5 if step == "fast" else 1)
        assert got["fast"] == sent[: len(got["fast"])]
        assert got["slow"] == sent[: len(got["slow"])]
        assert outbox.behind("slow") == len(sent) - len(got["slow"])
    disk.full = False
    clock.time += 5
    outbox.flush()
    for sink in got:
        while outbox.behind(sink):
            some(sink, 10)
    assert got == {"fast": sent, "slow": sent}
    outbox.close()
    assert outbox.lost == 0
