"""The outbox on disk: one SQLite file, one writer, one reader. Beside them only dead letters are looked at and marked,
by another process (letters.py).

WAL with ``synchronous=FULL``: a commit is on the disk when it returns, and readers see what is committed alone
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streamguard.delivery.backlog import Rank, Row
from streamguard.errors import StreamGuardError

APPLICATION: Final = 0x53474F42  # "SGOB" in the file's header: an outbox of StreamGuard
VERSION: Final = 2

# A table for each rank: rows that go together lie together, so that deleting them gives whole pages back.
_TABLES: Final[dict[Rank, str]] = {rank: f"event_{rank.name.lower()}" for rank in Rank if rank is not Rank.DEAD}
_SCHEMA: Final = (
    "".join(
        f"CREATE TABLE {table} (sequence INTEGER PRIMARY KEY, stored REAL NOT NULL, body TEXT NOT NULL);"
        for table in _TABLES.values()
    )
    + """
CREATE TABLE dead (number INTEGER PRIMARY KEY, sink TEXT NOT NULL, sequence INTEGER NOT NULL, reason TEXT NOT NULL,
                   body TEXT NOT NULL, again INTEGER NOT NULL DEFAULT 0);
CREATE INDEX dead_again ON dead (sink, number) WHERE again = 1;
CREATE TABLE cursor (sink TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE state (only INTEGER PRIMARY KEY CHECK (only = 0), last INTEGER NOT NULL, clock REAL NOT NULL);
INSERT INTO state VALUES (0, 0, 0.0);
"""
)
# What makes a file of that version one of the next.
_STEPS: Final = {
    1: "ALTER TABLE dead ADD COLUMN again INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX dead_again ON dead (sink, number) WHERE again = 1;",
}
# One statement, so that all tables are read as one commit left them.
_READ: Final = (
    " UNION ALL ".join(
        f"SELECT * FROM (SELECT sequence, stored, {int(rank)}, body FROM {table} WHERE sequence > :after "
        "ORDER BY sequence LIMIT :limit)"
        for rank, table in _TABLES.items()
    )
    + " ORDER BY sequence LIMIT :limit"
)
_PAGE: Final = 4096
_SPARE: Final = 32  # pages that one commit may need beside its rows
_CHUNK: Final = 200  # rows that go before it is looked how much room there is


class StoreFailed(StreamGuardError):
    """The disk did not take or give what it should: full, read-only, broken."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter: an event that a sink will never have, with why."""

    sink: str
    row: Row
    reason: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is to be tried once more: its place among the dead, and the event's number and JSON."""

    place: int
    sequence: int
    body: str


@dataclass(frozen=True, slots=True)
class Work:
    """What one commit writes. ``segments``: last event of each open segment, None for one that has ended.

    ``letters``: what became of dead letters that were tried once more, by their place: None for one that was taken,
    else why it stays dead. ``done``: every sink has the events up to this number; ``last``: the highest number given
    out; ``clock``: the outbox' own clock, seconds.
    """

    rows: Sequence[Row] = ()
    cursors: Mapping[str, int] = field(default_factory=dict)
    dead: Sequence[Dead] = ()
    segments: Mapping[str, str | None] = field(default_factory=dict)
    letters: Mapping[int, str | None] = field(default_factory=dict)
    done: int = 0
    last: int = 0
    clock: float = 0.0


class Store:
    """An outbox file that is there and sound; :func:`streamguard.delivery.vault.open_store` makes one.

    :meth:`commit` belongs to one thread, :meth:`read` to another; the rest is for the time before both run.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._pages = max_bytes // _PAGE
        self._writer = connect(path)
        self._writer.execute(f"PRAGMA max_page_count = {self._pages}")
        self._reader = connect(path)
        self._reader.execute("PRAGMA query_only = TRUE")
        self._done = 0

    # Before the threads run.

    def cursors(self) -> dict[str, int]:
        """Up to where each sink has its events."""
        return dict(self._writer.execute("SELECT sink, sequence FROM cursor"))

    def forget_cursor(self, sink: str) -> None:
        """Events no longer wait for that sink."""
        self._writer.execute("DELETE FROM cursor WHERE sink = ?", (sink,))

    def segments(self) -> dict[str, str]:
        """The last event of each segment that is open, as JSON, by the segment's name."""
        return dict(self._writer.execute("SELECT name, body FROM segment ORDER BY name"))

    def standing(self) -> tuple[int, float]:
        """The highest number given out, and the outbox' clock, as the last commit left them."""
        last, clock = self._writer.execute("SELECT last, clock FROM state").fetchone()
        return last, clock

    def count(self, after: int) -> int:
        """How many events stand behind that number."""
        return sum(
            self._writer.execute(f"SELECT count(*) FROM {table} WHERE sequence > ?", (after,)).fetchone()[0]
            for table in _TABLES.values()
        )

    def dead_letters(self) -> list[tuple[str, int, str]]:
        """Sink, number and reason of every dead letter, in order."""
        return list(self._writer.execute("SELECT sink, sequence, reason FROM dead ORDER BY number"))

    # The writer's thread.

    def commit(self, work: Work) -> list[int]:
        """Write it all, or nothing; on the disk when it returns. The numbers of rows that had to go for it.

        Raises:
            StoreFailed: nothing was written: the disk is full or broken, or the outbox has no room left.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            if work.done > self._done:
                for table in _TABLES.values():
                    self._writer.execute(f"DELETE FROM {table} WHERE sequence <= ?", (work.done,))
            gone = self._make_room(work)
            self._write(work)
            self._writer.execute("COMMIT")
        except (sqlite3.Error, StoreFailed) as error:
            self._roll_back()
            if isinstance(error, StoreFailed):
                raise
            raise StoreFailed(f"outbox '{self.path}' takes nothing: {error}. Make room there.") from error
        self._done = max(self._done, work.done)
        return gone

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except sqlite3.Error:  # SQLite has done it by itself, or does when the file is opened next
                return

    def _make_room(self, work: Work) -> list[int]:
        """Delete by rank until there is room for the rows. The numbers of events that went."""
        bodies = sum(len(row.body.encode()) for row in work.rows) + sum(len(one.row.body.encode()) for one in work.dead)
        need = _SPARE + 2 * bodies // _PAGE  # rows that do not fit together leave up to half of a page empty
        gone: list[int] = []
        if self._free() >= need:
            return gone
        # A twentieth more at once: not each commit should have to do it.
        for rank in Rank:
            while rank is not Rank.KEPT and self._free() < need + self._pages // 20:
                evicted = self._evict(rank)
                if not evicted:
                    break
                gone += [] if rank is Rank.DEAD else evicted  # a dead letter was lost before
        if self._free() < need:
            raise StoreFailed(
                f"outbox '{self.path}' is full of opened and closed segments that no sink takes. "
                "See to the sinks, or raise outbox.max_bytes."
            )
        return gone

    def _free(self) -> int:
        """Pages that may still be used."""
        (used,) = self._writer.execute("PRAGMA page_count").fetchone()
        (unused,) = self._writer.execute("PRAGMA freelist_count").fetchone()
        return int(self._pages - used + unused)

    def _evict(self, rank: Rank) -> list[int]:
        """Delete some of the oldest of a rank. Their numbers."""
        table, key = ("dead", "number") if rank is Rank.DEAD else (_TABLES[rank], "sequence")
        found = self._writer.execute(f"SELECT {key} FROM {table} ORDER BY {key} LIMIT {_CHUNK}").fetchall()
        self._writer.executemany(f"DELETE FROM {table} WHERE {key} = ?", found)
        return [number for (number,) in found]

    def _write(self, work: Work) -> None:
        write = self._writer.executemany
        for row in work.rows:
            self._writer.execute(
                f"INSERT INTO {_TABLES[row.rank]} VALUES (?, ?, ?)", (row.sequence, row.stored, row.body)
            )
        write(
            "INSERT INTO dead (sink, sequence, reason, body) VALUES (?, ?, ?, ?)",
            [(one.sink, one.row.sequence, one.reason, one.row.body) for one in work.dead],
        )
        taken = [(place,) for place, reason in work.letters.items() if reason is None]
        write("DELETE FROM dead WHERE number = ?", taken)
        still = [(reason, place) for place, reason in work.letters.items() if reason is not None]
        write("UPDATE dead SET again = 0, reason = ? WHERE number = ?", still)
        write("INSERT OR REPLACE INTO cursor VALUES (?, ?)", work.cursors.items())
        write("DELETE FROM segment WHERE name = ?", [(name,) for name, body in work.segments.items() if body is None])
        write("INSERT OR REPLACE INTO segment VALUES (?, ?)", [item for item in work.segments.items() if item[1]])
        self._writer.execute("UPDATE state SET last = max(last, ?), clock = ?", (work.last, work.clock))

    # The sinks' thread.

    def read(self, after: int, limit: int) -> list[Row]:
        """Committed rows behind that number, in order.

        Raises:
            StoreFailed: the disk does not give them.
        """
        try:
            found: Iterable[tuple[int, float, int, str]] = self._reader.execute(
                _READ, {"after": after, "limit": limit}
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(f"outbox '{self.path}' can't be read: {error}.") from error
        return [Row(sequence, stored, Rank(rank), body) for sequence, stored, rank, body in found]

    def letter(self, sink: str, after: int) -> Letter | None:
        """The sink's first dead letter behind that place that is to be tried once more.

        Raises:
            StoreFailed: the disk does not give it.
        """
        try:
            found = self._reader.execute(
                "SELECT number, sequence, body FROM dead WHERE sink = ? AND again = 1 AND number > ? "
                "ORDER BY number LIMIT 1",
                (sink, after),
            ).fetchone()
        except sqlite3.Error as error:
            raise StoreFailed(f"outbox '{self.path}' can't be read: {error}.") from error
        return None if found is None else Letter(*found)

    def close(self) -> None:
        """Both connections; the last one to close folds the log into the file."""
        self._reader.close()
        self._writer.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there. It may cross threads, one at a time."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """Make a file of an earlier version one of this version, in one transaction."""
    steps = "".join(_STEPS[step] for step in range(version, VERSION))
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")


def create(path: Path) -> None:
    """Lay an empty outbox out in an empty file."""
    with closing(connect(path)) as fresh:
        # The header first, and without a log: what it says must stand in the file itself from the start.
        fresh.execute(f"PRAGMA page_size = {_PAGE}")
        fresh.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT;"
        )
        fresh.execute("PRAGMA journal_mode = WAL")
