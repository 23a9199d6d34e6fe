"""JSON Lines (jsonlines.org): one event a line, UTF-8, appended to a file or to standard output.

>>> import json, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = Path(folder.name, "events.jsonl")
>>> with JsonLines(path) as lines:
...     lines.write({"id": "a/0"})
>>> json.loads(path.read_text())
{'id': 'a/0'}
>>> folder.cleanup()
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from streamguard.delivery.blocking import BlockingCalls
from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkClosed, SinkError
from streamguard.errors import UsageError

STDOUT: Final = "-"
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class JsonlSettings:
    """``path``: a file that events are appended to. At ``max_bytes`` it is renamed to ``<path>.1``, that to
    ``<path>.2``, and so on; ``keep`` of them stay."""

    name: str
    type: Literal["jsonl"]
    path: str
    max_bytes: int = 100_000_000
    keep: int = 5

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}; expected 1 or more")
        if self.keep < 0:
            raise ValueError(f"keep is {self.keep}; expected 0 or more files")

    def make(self, secrets: Mapping[str, str]) -> JsonlSink:
        """The sink; its file is opened later.

        Raises:
            UsageError: the file's folder is not there.
        """
        folder = Path(self.path).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"sink '{self.name}': there is no folder '{folder}'. Make it, or name another path.")
        return JsonlSink(self.name, self.path, Rotation(self.max_bytes, self.keep), durable=True)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A file of ``max_bytes`` gives way to a new one; ``keep`` older ones stay."""

    max_bytes: int
    keep: int


class RawFile(Protocol):
    """A file without a buffer: ``write`` returns how much it took, None if it would have to wait."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class JsonLines:
    """Appends events to ``path``; ``"-"`` is standard output. A line is out of the process when ``write`` returns.

    A line that was cut short (full disk, a crash before) is closed before the next one starts, so that one
    damaged line never costs its neighbour. A file that was renamed or removed from outside is begun anew.

    Raises:
        SinkError: the file can't be opened for appending.
    """

    def __init__(self, path: Path | str, rotation: Rotation | None = None) -> None:
        self.path = str(path)
        self._rotation = rotation
        self._torn = False
        self._owned = self.path != STDOUT
        self._file = self._open() if self._owned else _raw_stdout()

    def _open(self) -> RawFile:
        try:
            self._torn = _ends_torn(Path(self.path))
            return open(self.path, "ab", buffering=0)
        except OSError as error:
            raise SinkError(
                f"'{self.path}' can't take events: {error.strerror}. Name a file in an existing folder, or '-'."
            ) from error

    def write(self, event: Mapping[str, Any]) -> None:
        """Write one event as one line.

        Raises:
            SinkClosed: the other end of the pipe is gone.
            SinkError: the line could not be written whole, for instance on a full disk.
        """
        line = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            if self._rotation is not None:
                self._make_room(len(line), self._rotation)
            if self._torn:
                self._send(b"\n")
            self._send(line)
        except BrokenPipeError as error:
            raise SinkClosed(f"Events have no reader any more: '{self.path}' was closed at its other end.") from error
        except OSError as error:
            raise SinkError(
                f"'{self.path}' did not take event '{event.get('id')}': {error.strerror}. Make room there."
            ) from error

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "its reader does not keep up")
            rest = rest[written:]
            self._torn = bool(rest)

    def _make_room(self, size: int, rotation: Rotation) -> None:
        there = os.fstat(self._file.fileno())
        if not _same_file(self.path, there):
            self._reopen()
        elif there.st_size > 0 and there.st_size + size > rotation.max_bytes:
            _shift(self.path, rotation.keep)
            self._reopen()

    def _reopen(self) -> None:
        self._file.close()
        self._file = self._open()

    def sync(self) -> None:
        """Wait until the disk has the lines; what is no regular file has nothing to wait for.

        Raises:
            SinkError: the disk did not take them.
        """
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # a pipe or a device
                raise SinkError(f"'{self.path}' did not keep its lines: {error.strerror}.") from error

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonlSink:
    """JSON Lines as a sink. Writes in a thread of its own: a pipe may stand still for as long as its reader likes.

    ``durable``: the disk has a batch before it counts as delivered. After a failed batch the lines that were
    written are not written again while this object lives.
    """

    batch = _BATCH

    def __init__(self, name: str, path: Path | str, rotation: Rotation | None = None, *, durable: bool = False) -> None:
        self.name = name
        self._path = path
        self._rotation = rotation
        self._durable = durable
        self._lines: JsonLines | None = None
        self._written: set[tuple[str, str]] = set()
        self._calls = BlockingCalls(f"sink-{name}")

    def prepare(self) -> None:
        """Open the file now, before there is a loop.

        Raises:
            SinkError: it can't be opened for appending.
        """
        if self._lines is None:
            self._lines = JsonLines(self._path, self._rotation)

    async def open(self) -> None:
        """Open the file for appending."""
        await self._calls.run(self.prepare)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Append the batch."""
        await self._calls.run(lambda: self._append(events))

    async def close(self) -> None:
        """Close the file."""
        await self._calls.run(self._close)
        self._calls.end()

    def _append(self, events: Sequence[Event]) -> None:
        if self._lines is None:
            raise SinkError(f"'{self._path}' is not open.")
        for event in events:
            key = (event["source"], event["id"])
            if key not in self._written:
                self._lines.write(event)
                self._written.add(key)
        self._written.clear()
        if self._durable:
            self._lines.sync()

    def _close(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None


def _raw_stdout() -> RawFile:
    """Standard output below its buffer: a buffer would hide which line was cut."""
    sys.stdout.flush()
    raw: RawFile = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    return raw


def _ends_torn(path: Path) -> bool:
    """Whether a regular file has a last line without its newline."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _same_file(path: str, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), there)
    except FileNotFoundError:
        return False


def _shift(path: str, keep: int) -> None:
    """``path`` becomes ``path.1``, that ``path.2``; the one beyond ``keep`` goes."""
    names = [path, *(f"{path}.{count}" for count in range(1, keep + 1))]
    if len(names) == 1:
        os.unlink(path)
    for old, new in reversed(list(itertools.pairwise(names))):
        if os.path.exists(old):
            os.replace(old, new)
