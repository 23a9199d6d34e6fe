"""JSON Lines (jsonlines.org): one event a line, UTF-8, appended to a file or to standard output.

>>> import json, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = Path(folder.name, "events.jsonl")
>>> with JsonLines(path) as sink:
...     sink.write({"id": "a/0"})
>>> json.loads(path.read_text())
{'id': 'a/0'}
>>> folder.cleanup()
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from streamguard.delivery.sinks import SinkClosed, SinkError

STDOUT: Final = "-"
NAME: Final = "jsonl"


class RawFile(Protocol):
    """A file without a buffer: ``write`` returns how much it took, None if it would have to wait."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def close(self) -> None: ...


class JsonLines:
    """Appends events to ``path``; ``"-"`` is standard output. A line is out of the process when ``write`` returns.

    A line that was cut short (full disk, a crash before) is closed before the next one starts, so that one
    damaged line never costs its neighbour.

    Raises:
        SinkError: the file can't be opened for appending.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
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
            if self._torn:
                self._send(b"\n")
            self._send(line)
        except BrokenPipeError as error:
            raise SinkClosed(f"Events have no reader any more: '{self.path}' was closed at its other end.") from error
        except OSError as error:
            raise SinkError(
                f"Event '{event.get('id')}' is lost, '{self.path}' did not take it: {error.strerror}. Make room there."
            ) from error

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "its reader does not keep up")
            rest = rest[written:]
            self._torn = bool(rest)

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
