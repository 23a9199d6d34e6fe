"""Dead letters, looked at and marked while a StreamGuard has the outbox open, or while none does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from streamguard.delivery.backlog import Rank, Row
from streamguard.delivery.letters import Chosen, LetterBox
from streamguard.delivery.store import Dead, Store, StoreFailed, Work
from streamguard.delivery.vault import open_store
from tests.delivery.making import MEBIBYTE

DEAD = [("hook", 3), ("bus", 3), ("hook", 5), ("bus", 9)]


def filled(path: Path, dead: list[tuple[str, int]] = DEAD, max_bytes: int = 8 * MEBIBYTE) -> Store:
    store = open_store(path, max_bytes)
    letters = [Dead(sink, Row(number, 0.0, Rank.KEPT, f'{{"id":"e{number}"}}'), "why") for sink, number in dead]
    store.commit(Work(dead=letters, last=10))
    return store


@pytest.fixture(params=["open", "closed"])
def path(tmp_path: Path, request: pytest.FixtureRequest):
    """An outbox that a StreamGuard has open, or none."""
    store = filled(tmp_path / "o.db")
    if request.param == "closed":
        store.close()
    yield tmp_path / "o.db"
    if request.param == "open":
        store.close()


def there(box: LetterBox, chosen: Chosen | None = None) -> list[tuple[str, int, bool]]:
    return [(letter.sink, letter.number, letter.again) for letter in box.letters(chosen or Chosen())]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (Chosen(), DEAD),
        (Chosen(sink="bus"), [("bus", 3), ("bus", 9)]),
        (Chosen([3, 9]), [("hook", 3), ("bus", 3), ("bus", 9)]),
        (Chosen([3, 4, 5], "hook"), [("hook", 3), ("hook", 5)]),
        (Chosen(sink="lake"), []),
    ],
)
def test_which_are_chosen(path: Path, chosen: Chosen, found: list[tuple[str, int]]) -> None:
    with LetterBox(path) as box:
        assert there(box, chosen) == [(sink, number, False) for sink, number in found]
        first = next(box.letters(Chosen([5])))
        assert (first.reason, first.event) == ("why", {"id": "e5"})


def test_marking_and_dropping(path: Path) -> None:
    with LetterBox(path) as box:
        assert box.retry(Chosen([3])) == 2
        assert box.retry(Chosen(sink="hook")) == 1, "one of them is marked already"
        assert there(box) == [("hook", 3, True), ("bus", 3, True), ("hook", 5, True), ("bus", 9, False)]
        assert box.drop(Chosen([3], "bus")) == 1
        assert box.drop(Chosen([3], "bus")) == 0
        assert box.drop(Chosen()) == 3
        assert there(box) == []


def test_many_are_changed_a_few_at_a_time(tmp_path: Path) -> None:
    store = filled(tmp_path / "o.db", [("hook", number) for number in range(1, 1702)])
    with LetterBox(tmp_path / "o.db") as box:
        assert [number for _, number, _ in there(box)] == list(range(1, 1702))
        assert box.retry(Chosen()) == 1701
        assert box.drop(Chosen(sink="hook")) == 1701
    store.close()


def test_a_slow_reader_stands_in_nobodys_way(tmp_path: Path) -> None:
    store = filled(tmp_path / "o.db", [("hook", number) for number in range(1, 1001)])
    with LetterBox(tmp_path / "o.db") as box:
        reading = box.letters(Chosen())
        next(reading)
        store.commit(Work([Row(11, 0.0, Rank.KEPT, "{}")], last=11))
        with closing(sqlite3.connect(tmp_path / "o.db")) as other:
            busy, logged, moved = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (busy, logged, moved) == (0, 0, 0), "no reader holds the log"
        assert len(list(reading)) == 999
    store.close()


def test_one_writer_waits_for_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "o.db")
    with LetterBox(tmp_path / "o.db") as box, closing(sqlite3.connect(tmp_path / "o.db")) as other:
        box._connection.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match=r"o\.db' can't be used: database is locked\. Try again"):
            box.drop(Chosen())
        other.rollback()
        assert box.drop(Chosen()) == 4
    store.close()
