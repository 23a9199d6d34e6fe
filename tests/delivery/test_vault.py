"""What is opened as an outbox, what is refused, and what is set aside."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamguard.delivery.backlog import Rank, Row
from streamguard.delivery.store import Dead, Store, Work
from streamguard.delivery.vault import Lock, connect_beside, open_store
from streamguard.errors import OutboxRefused
from tests.delivery.making import MEBIBYTE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "o.db"


def filled(path: Path, rows: int = 200) -> Store:
    store = open_store(path, MEBIBYTE)
    store.commit(Work([Row(sequence, 0.0, Rank.KEPT, "x" * 900) for sequence in range(1, rows + 1)], last=rows))
    return store


def test_an_empty_file_is_a_new_outbox(path: Path) -> None:
    path.touch()
    store = open_store(path, MEBIBYTE)
    assert store.read(0, 10) == []
    store.close()


def test_a_file_with_something_else_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("my diary\n")
    with pytest.raises(OutboxRefused, match=r"o\.db' is no outbox of StreamGuard; it is left as it is\. Name another"):
        open_store(path, MEBIBYTE)
    assert path.read_text() == "my diary\n"


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE event (sequence INTEGER PRIMARY KEY)")
    with pytest.raises(OutboxRefused, match="is no outbox of StreamGuard"):
        open_store(path, MEBIBYTE)


def test_one_of_a_newer_streamguard_is_refused(path: Path) -> None:
    filled(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 3")
    with pytest.raises(OutboxRefused, match=r"newer StreamGuard \(version 3; this one knows 2\)\. Run that one"):
        open_store(path, MEBIBYTE)
    with closing(sqlite3.connect(path)) as kept:
        assert kept.execute("SELECT count(*) FROM event_kept").fetchone() == (200,)


def earlier(path: Path) -> None:
    """Make it what version 1 wrote."""
    with closing(sqlite3.connect(path)) as old:
        old.executescript("DROP INDEX dead_again; ALTER TABLE dead DROP COLUMN again; PRAGMA user_version = 1;")


def test_one_of_an_earlier_streamguard_is_brought_up_to_date(path: Path) -> None:
    store = filled(path)
    store.commit(Work(dead=[Dead("hook", Row(7, 0.0, Rank.KEPT, "{}"), "too large")], last=200))
    store.close()
    fresh = sqlite_schema(path)
    earlier(path)
    again = open_store(path, MEBIBYTE)
    assert len(again.read(0, 1000)) == 200
    assert again.dead_letters() == [("hook", 7, "too large")]
    assert again.letter("hook", 0) is None
    again.close()
    assert sqlite_schema(path) == fresh


def sqlite_schema(path: Path) -> set[str]:
    """Tables, columns and indices, and the version."""
    with closing(sqlite3.connect(path)) as file:
        columns = file.execute(
            "SELECT m.name || '.' || c.name || ' ' || c.type || c.'notnull' || coalesce(c.dflt_value, '') "
            "FROM sqlite_schema m, pragma_table_info(m.name) c"
        )
        found = {name for (name,) in columns} | {name for (name,) in file.execute("SELECT name FROM sqlite_schema")}
        return found | {str(file.execute("PRAGMA user_version").fetchone())}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, r"there is no outbox '.*o\.db'\. Name the file that outbox\.path names"),
        (lambda path: path.write_text("my diary\n"), "is no outbox of StreamGuard"),
        (
            lambda path: (filled(path).close(), earlier(path)),
            r"version 1; this one knows 2\)\. Start this one on it once",
        ),
        (lambda path: path.write_bytes(bytes(4096)), "can't be opened: its header is empty"),
    ],
    ids=["absent", "foreign", "earlier", "damaged"],
)
def test_what_is_not_opened_beside_a_streamguard_is_left_as_it_is(path: Path, make, message: str) -> None:
    make(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(OutboxRefused, match=message):
        connect_beside(path)
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:100] + bytes(4096 - 100) + data[4096:],  # its first page, which says what tables there are
        lambda data: data[: len(data) // 2],  # cut
        lambda data: data[:8192] + b"\xa5" * (len(data) - 8192),  # everything but the first pages
        lambda data: bytes(4096) + data[4096:],  # the header
    ],
)
def test_a_damaged_one_is_set_aside_and_a_fresh_one_begun(path: Path, damage, caplog) -> None:
    filled(path).close()
    spoilt = damage(path.read_bytes())
    path.write_bytes(spoilt)
    with caplog.at_level(logging.ERROR):
        store = open_store(path, MEBIBYTE)
    assert "is damaged" in caplog.text
    assert f"it was renamed '{path}.damaged', and a fresh one is begun" in caplog.text
    assert path.with_name("o.db.damaged").read_bytes() == spoilt
    store.commit(Work([Row(1, 0.0, Rank.KEPT, "{}")], last=1))
    assert [row.body for row in store.read(0, 10)] == ["{}"]
    store.close()


def test_a_second_damaged_one_does_not_overwrite_the_first(path: Path) -> None:
    for _ in range(2):
        filled(path).close()
        path.write_bytes(path.read_bytes()[:5000])
        open_store(path, MEBIBYTE).close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["o.db", "o.db.damaged", "o.db.damaged-2"]


def test_what_a_killed_process_left_in_the_log_is_there(path: Path) -> None:
    """The log is not folded into the file when a process is killed."""
    code = f"""
import os, sys
from pathlib import Path
from tests.delivery.test_vault import filled
store = filled(Path({str(path)!r}))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False, timeout=120)
    assert path.with_name("o.db-wal").stat().st_size > 0
    store = open_store(path, MEBIBYTE)
    assert len(store.read(0, 1000)) == 200
    store.close()


def test_two_may_not_use_one(path: Path) -> None:
    lock = Lock(path)
    with pytest.raises(OutboxRefused, match=r"o\.db' is in use by another StreamGuard\. Stop that one, or name"):
        Lock(path)
    lock.release()
    Lock(path).release()


def test_the_lock_goes_with_its_process(path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from streamguard.delivery.vault import Lock\n"
    code += f"lock = Lock(Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutboxRefused, match="in use"):
            Lock(path)
        holder.kill()
        holder.wait(60)
        Lock(path).release()


def test_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "streamguard" / "o.db"
    lock = Lock(path)
    open_store(path, MEBIBYTE).close()
    lock.release()
    assert (tmp_path / "state" / "streamguard").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxRefused, match=r"file/o\.db' can't be written: .*\. Name another by outbox\.path"):
        Lock(tmp_path / "file" / "o.db")


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutboxRefused, match=r"o\.db' can't be read: Is a directory"):
        open_store(path, MEBIBYTE)
