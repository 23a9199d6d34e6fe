"""Opening an outbox file: what it is, whether it is sound, and that nobody else has it open."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from streamguard.delivery.store import (
    APPLICATION,
    VERSION,
    Store,
    StoreFailed,
    bring_up_to_date,
    connect,
    create,
)
from streamguard.errors import OutboxRefused

log = logging.getLogger(__name__)

_MAGIC: Final = b"SQLite format 3\0"
_APPLICATION_AT: Final = slice(68, 72)  # https://www.sqlite.org/fileformat2.html#the_database_header
_HEADER: Final = 100
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_ASIDE: Final = ".damaged"


class Lock:
    """``<path>.lock``, held for as long as this object is: a second StreamGuard would close the first one's segments.

    Raises:
        OutboxRefused: somebody else holds it, or it can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFailed(f"outbox '{path}': {error.strerror}. Make room there.") from error
            raise OutboxRefused(
                f"outbox '{path}' can't be written: {error.strerror}. Name another by outbox.path."
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise OutboxRefused(
                f"outbox '{path}' is in use by another StreamGuard. Stop that one, or name another by outbox.path."
            ) from error

    def release(self) -> None:
        """The file stays: to remove it would let two hold locks on two files of one name."""
        os.close(self._descriptor)


def open_store(path: Path, max_bytes: int) -> Store:
    """The outbox in the file ``path``, made if it is not there. The caller holds its :class:`Lock`.

    A damaged one is set aside as ``<path>.damaged``, which the log says, and a fresh one begun.

    Raises:
        OutboxRefused: the file is something else, of a newer StreamGuard, or may not be written.
        StoreFailed: the disk is full or broken.
    """
    try:
        return _opened(path, max_bytes)
    except sqlite3.Error as error:
        if _primary(error) not in _DAMAGED:
            raise _named(path, error) from error
        aside = _set_aside(path)
        log.error("outbox '%s' is damaged (%s); it was renamed '%s', and a fresh one is begun.", path, error, aside)
    try:
        return _opened(path, max_bytes)
    except sqlite3.Error as error:
        raise _named(path, error) from error


def _opened(path: Path, max_bytes: int) -> Store:
    if _is_new(path):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise OutboxRefused(
                f"outbox '{path}' can't be written: {error.strerror}. Name another by outbox.path."
            ) from error
        create(path)
    with closing(connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise OutboxRefused(
                f"outbox '{path}' is of a newer StreamGuard (version {version}; this one knows {VERSION}). "
                "Run that one, or name another by outbox.path."
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            damaged = sqlite3.DatabaseError(verdict)
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damaged
        if version < VERSION:
            bring_up_to_date(connection, version)
    return Store(path, max_bytes)


def connect_beside(path: Path) -> sqlite3.Connection:
    """A connection to an outbox that a StreamGuard may have open.

    Raises:
        OutboxRefused: there is none, or it is something else, damaged, or of another version.
    """
    try:
        if _is_new(path):
            raise OutboxRefused(f"there is no outbox '{path}'. Name the file that outbox.path names.")
        connection = connect(path)
    except sqlite3.Error as error:
        raise _named(path, error) from error
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise _named(path, error) from error
    if version != VERSION:
        connection.close()
        raise OutboxRefused(
            f"outbox '{path}' is of another StreamGuard (version {version}; this one knows {VERSION}). "
            + ("Run that one." if version > VERSION else "Start this one on it once: that brings it up to date.")
        )
    return connection


def _is_new(path: Path) -> bool:
    """Whether there is nothing in the file.

    Raises:
        OutboxRefused: there is something, and it is no outbox. sqlite3.DatabaseError: its header is gone.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise OutboxRefused(f"outbox '{path}' can't be read: {error.strerror}. Name another by outbox.path.") from error
    if not header:
        return True
    if not any(header):  # zeros: what a power cut leaves of a page that was never written
        damaged = sqlite3.DatabaseError("its header is empty")
        damaged.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise damaged
    if not header.startswith(_MAGIC) or header[_APPLICATION_AT] != APPLICATION.to_bytes(4, "big"):
        raise OutboxRefused(f"'{path}' is no outbox of StreamGuard; it is left as it is. Name another by outbox.path.")
    return False


def _set_aside(path: Path) -> Path:
    """Rename the file, and its log if there is anything in it; the first free name."""
    count, aside = 1, path.with_name(path.name + _ASIDE)
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}{_ASIDE}-{count}")
    path.rename(aside)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    written = path.with_name(path.name + "-wal")
    if written.exists() and written.stat().st_size > 0:
        written.rename(aside.with_name(aside.name + "-wal"))
    else:
        written.unlink(missing_ok=True)
    return aside


def _primary(error: sqlite3.Error) -> int:
    """The primary result code; extended ones carry it in the low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _named(path: Path, error: sqlite3.Error) -> OutboxRefused | StoreFailed:
    if _primary(error) in _DISK:
        return StoreFailed(f"outbox '{path}' can't be opened: {error}. Make room there.")
    return OutboxRefused(f"outbox '{path}' can't be opened: {error}. Name another by outbox.path.")
