"""The outbox on disk: all or nothing, bounded, and in order."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from streamguard.delivery.backlog import Rank, Row
from streamguard.delivery.store import Dead, Letter, Store, StoreFailed, Work
from streamguard.delivery.vault import open_store
from tests.delivery.making import MEBIBYTE

BODY = "x" * 1000


def row(sequence: int, rank: Rank = Rank.KEPT, body: str = BODY) -> Row:
    return Row(sequence, float(sequence), rank, body)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "o.db", MEBIBYTE)
    yield store
    store.close()


def numbers(store: Store, after: int = 0) -> list[int]:
    return [row.sequence for row in store.read(after, 10_000)]


def test_what_is_committed_is_read_back(store: Store) -> None:
    rows = [row(1), row(2, Rank.UPDATED, '{"name":"Tür"}')]
    assert store.commit(Work(rows, {"hook": 0}, segments={"s": "{}"}, last=2, clock=7.5)) == []
    assert store.read(0, 10) == rows
    assert store.read(1, 10) == rows[1:]
    assert store.read(0, 1) == rows[:1]
    assert store.cursors() == {"hook": 0}
    assert store.segments() == {"s": "{}"}
    assert store.standing() == (2, 7.5)
    assert (store.count(0), store.count(1), store.count(2)) == (2, 1, 0)


def test_it_is_there_after_closing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "o.db", MEBIBYTE)
    store.commit(Work([row(1)], {"hook": 1}, [Dead("hook", row(9), "why")], {"s": "{}"}, last=1))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.db"]
    again = open_store(tmp_path / "o.db", MEBIBYTE)
    assert numbers(again) == [1]
    assert again.cursors() == {"hook": 1}
    assert again.dead_letters() == [("hook", 9, "why")]
    again.close()


def test_commits_are_synchronous_and_in_the_log(store: Store) -> None:
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_all_sinks_have_goes(store: Store) -> None:
    store.commit(Work([row(1), row(2), row(3)], last=3))
    store.commit(Work(done=2, last=3))
    assert numbers(store) == [3]
    store.commit(Work(done=3, last=3))
    assert numbers(store) == []
    assert store.standing()[0] == 3, "numbers are not given out twice"


def test_a_segment_that_ends_is_forgotten(store: Store) -> None:
    store.commit(Work(segments={"a": "1", "b": "2"}))
    store.commit(Work(segments={"a": None, "b": "3"}))
    assert store.segments() == {"b": "3"}


def test_a_sink_can_be_forgotten(store: Store) -> None:
    store.commit(Work(cursors={"a": 1, "b": 2}))
    store.forget_cursor("a")
    assert store.cursors() == {"b": 2}


def marked(path: Path) -> None:
    """All dead letters are to be tried once more."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE dead SET again = 1")


def test_letters_that_are_to_be_tried_again_come_by_sink_and_in_order(tmp_path: Path, store: Store) -> None:
    dead = [Dead("hook", row(3), "a"), Dead("bus", row(3), "b"), Dead("hook", row(5, body="{}"), "c")]
    store.commit(Work(dead=dead, last=5))
    assert store.letter("hook", 0) is None, "nobody wants it"
    marked(tmp_path / "o.db")
    assert store.letter("hook", 0) == Letter(1, 3, BODY)
    assert store.letter("hook", 1) == Letter(3, 5, "{}")
    assert store.letter("hook", 3) is None
    assert store.letter("lake", 0) is None


def test_what_became_of_a_letter_is_written(tmp_path: Path, store: Store) -> None:
    store.commit(Work(dead=[Dead("hook", row(number), "before") for number in (1, 2, 3)], last=3))
    marked(tmp_path / "o.db")
    store.commit(Work(letters={1: None, 2: "after", 77: None, 78: "not there"}))
    assert store.dead_letters() == [("hook", 2, "after"), ("hook", 3, "before")]
    assert store.letter("hook", 0) == Letter(3, 3, BODY)


def test_all_or_nothing(store: Store) -> None:
    store.commit(Work([row(1)], {"hook": 0}, last=1))
    with pytest.raises(StoreFailed, match=r"o\.db' takes nothing: UNIQUE constraint failed"):
        store.commit(Work([row(2), row(1)], {"hook": 9}, segments={"s": "{}"}, last=2))
    assert numbers(store) == [1]
    assert store.cursors() == {"hook": 0}
    assert store.segments() == {}
    assert store.commit(Work([row(2)], last=2)) == []


def fill(store: Store, ranks: Sequence[Rank], most: int = 10_000) -> tuple[list[Row], list[int]]:
    """Commit rows of those ranks in turn, ten at a time, until the store refuses or ``most`` are in: those that were
    committed, and the numbers of those that had to go."""
    rows: list[Row] = []
    gone: list[int] = []
    while len(rows) < most:
        first = len(rows) + 1
        more = [row(sequence, ranks[sequence % len(ranks)]) for sequence in range(first, first + 10)]
        try:
            gone += store.commit(Work(more, last=first + 9))
        except StoreFailed:
            break
        rows += more
    return rows, gone


def test_opened_and_closed_segments_fill_it_and_what_comes_then_is_refused(store: Store) -> None:
    rows, gone = fill(store, [Rank.KEPT])
    assert len(rows) > 500
    assert gone == []
    more = [row(5000 + count) for count in range(20)]
    with pytest.raises(StoreFailed, match="is full of opened and closed segments that no sink takes"):
        store.commit(Work(more, last=5020))
    assert store.read(0, 10_000) == rows
    assert store.commit(Work([row(5000)], done=200, last=5000)) == []
    assert numbers(store) == [*range(201, len(rows) + 1), 5000]


def test_updates_go_first_then_states_then_stream_events(store: Store) -> None:
    rows, gone = fill(store, [Rank.UPDATED, Rank.STATE, Rank.STREAM, Rank.KEPT])
    kept = [one.sequence for one in rows if one.rank is Rank.KEPT]
    assert set(kept) <= set(numbers(store)), "what was committed and never goes is there"
    ranks = {one.sequence: one.rank for one in rows}
    assert sorted([*gone, *numbers(store)]) == list(ranks), "each row is there or was named"
    assert len(numbers(store)) - len(kept) < 40, "nearly all of the rest has gone"
    # While there is room there is no loss; the first to go are updates, in order, and no other.
    first = gone[:100]
    assert [ranks[sequence] for sequence in first] == [Rank.UPDATED] * 100
    assert first == sorted(first)


def test_no_state_goes_while_there_is_an_update(store: Store) -> None:
    rows, gone = fill(store, [Rank.UPDATED, Rank.STATE, Rank.KEPT], most=1000)
    left = {one.rank for one in store.read(0, 10_000)}
    assert gone
    assert left == {Rank.UPDATED, Rank.STATE, Rank.KEPT}
    assert {rows[sequence - 1].rank for sequence in gone} == {Rank.UPDATED}


def test_dead_letters_go_after_updates_and_before_states(store: Store) -> None:
    store.commit(Work(dead=[Dead("hook", row(10_000 + sequence), "refused") for sequence in range(100)]))
    rows, gone = fill(store, [Rank.UPDATED, Rank.STATE, Rank.KEPT], most=850)
    assert {rows[sequence - 1].rank for sequence in gone} == {Rank.UPDATED}
    assert len(store.dead_letters()) == 100
    more, gone = [], []
    while not gone:
        more.append(row(20_000 + len(more)))
        gone = [sequence for sequence in store.commit(Work(more[-1:], last=30_000)) if rows[sequence - 1].rank > 0]
    assert store.dead_letters() == []
    assert {rows[sequence - 1].rank for sequence in gone} == {Rank.STATE}


def test_the_file_stays_within_its_bound(store: Store, tmp_path: Path) -> None:
    for start in range(1, 6001, 100):
        rows = [row(sequence, Rank.UPDATED if sequence % 5 else Rank.KEPT) for sequence in range(start, start + 100)]
        store.commit(Work(rows, done=start - 400, last=start + 99))
    assert (tmp_path / "o.db").stat().st_size <= MEBIBYTE


def test_a_reader_sees_what_is_committed_alone(store: Store) -> None:
    store._writer.execute("BEGIN IMMEDIATE")
    store._write(Work([row(1)], last=1))
    assert numbers(store) == []
    store._writer.execute("COMMIT")
    assert numbers(store) == [1]


def test_the_reading_connection_can_not_write(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._reader.execute("DELETE FROM event_kept")


def test_others_may_not_read_the_file(store: Store, tmp_path: Path) -> None:
    store.commit(Work([row(1)], last=1))
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("o.db*")} == {"0o600"}
    assert os.stat(tmp_path / "o.db").st_uid == os.geteuid()
