"""Dead letters of an outbox file: looked at, marked to be tried once more, or dropped, while a StreamGuard has it open
or while none does.

That is safe by SQLite's own rules: in WAL mode readers don't disturb a writer, writers take turns, and each waits for
the other's transaction (https://www.sqlite.org/wal.html#concurrency). So every write here is short, a few letters at a
time. A StreamGuard that runs tries marked letters within seconds, another one at its next start.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streamguard.delivery.events import Event
from streamguard.delivery.store import StoreFailed
from streamguard.delivery.vault import connect_beside

_CHUNK: Final = 500  # letters a transaction


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a sink will not have, with why. ``number``: the event's; no later event gets it again. ``again``:
    it is to be tried once more."""

    number: int
    sink: str
    reason: str
    again: bool
    event: Event


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters: those of these numbers, those of a sink, or all; both together narrow it down. One event can be
    a dead letter of several sinks."""

    numbers: Sequence[int] = ()
    sink: str | None = None

    def where(self) -> tuple[str, list[object]]:
        """The condition, and what stands for its question marks."""
        terms, values = ["TRUE"], list[object]()
        if self.numbers:
            terms.append(f"sequence IN ({', '.join('?' * len(self.numbers))})")
            values += self.numbers
        if self.sink is not None:
            terms.append("sink = ?")
            values.append(self.sink)
        return " AND ".join(terms), values


class LetterBox:
    """The dead letters of the outbox ``path``, as long as the block lasts.

    Raises:
        OutboxRefused: there is no outbox, or it is something else, damaged, or of another version. Any method raises
        StoreFailed: the disk is full or broken, or the outbox was busy for ten seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect_beside(path)

    def letters(self, chosen: Chosen) -> Iterator[DeadLetter]:
        """The chosen ones, in the order in which they died. A reader that takes its time holds nobody up."""
        where, values = chosen.where()
        last = 0
        while True:
            found = self._run(
                f"SELECT number, sequence, sink, reason, again, body FROM dead WHERE {where} AND number > ? "
                "ORDER BY number LIMIT ?",
                [*values, last, _CHUNK],
            ).fetchall()
            if not found:
                return
            for _, number, sink, reason, again, body in found:
                yield DeadLetter(number, sink, reason, bool(again), json.loads(body))
            last = found[-1][0]

    def retry(self, chosen: Chosen) -> int:
        """Mark the chosen ones to be tried once more. How many are marked now that were not."""
        return self._all("UPDATE dead SET again = 1", "again = 0", chosen)

    def drop(self, chosen: Chosen) -> int:
        """Delete the chosen ones for good. How many there were."""
        return self._all("DELETE FROM dead", "TRUE", chosen)

    def _all(self, change: str, still: str, chosen: Chosen) -> int:
        """Change all that are still to be changed, a chunk a transaction."""
        where, values = chosen.where()
        some = f"SELECT number FROM dead WHERE {where} AND {still} ORDER BY number LIMIT {_CHUNK}"
        count = 0
        while (changed := self._run(f"{change} WHERE number IN ({some})", values).rowcount) > 0:
            count += changed
        return count

    def _run(self, statement: str, values: Sequence[object]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise StoreFailed(
                f"outbox '{self._path}' can't be used: {error}. Try again, or make room there."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
