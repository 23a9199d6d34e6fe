"""What people say of segments, kept: JSON Lines, one label a line, appended and flushed to the disk before it counts.

A segment may be labelled more than once, by whomever: the last line about it is what holds, those before it are its
history. Nothing is ever changed or removed. A line cut short by a crash is closed before the next one is written.

Each line stands alone, for whoever calibrates later: it repeats the segment as it was when it was labelled, with
scores, threshold, engines, and where its evidence lies (crop and scores of every frame).
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from streamguard.errors import StreamGuardError, UsageError

log = logging.getLogger(__name__)

FORMAT: Final = "streamguard.label.v1"
BOUND: Final = 1000
"""Labels that are listed, the newest; the file has them all."""
MOST_BYTES: Final = 64 * 2**20
"""Of the file: some 40,000 labels. Beyond it none are taken."""

Label = Mapping[str, Any]


class LabelLost(StreamGuardError):
    """A label could not be kept."""


class LabelFile:
    """Appends labels, and lists the newest. One owner; its calls may come from any thread.

    Raises:
        UsageError: the file can't be opened for appending, or not be read.
    """

    def __init__(self, path: Path | str, bound: int = BOUND, most_bytes: int = MOST_BYTES) -> None:
        self._path = Path(path)
        self._most_bytes = most_bytes
        self._newest: deque[Label] = deque(maxlen=bound)
        self._writing = threading.Lock()
        self._listing = threading.Lock()  # never held while the disk is waited for
        try:
            with self._path.open("ab"):
                pass
            with self._path.open("rb") as file:
                damaged = self._read(file.readlines())
        except OSError as error:
            raise UsageError(
                f"api.labels: '{path}' can't take labels: {error.strerror}. Name a file in an existing folder."
            ) from error
        if damaged:
            log.warning("'%s': %d lines are no labels and are passed over", path, damaged)

    def append(self, label: Label) -> None:
        """Keep a label. Blocks until the disk has it.

        Raises:
            LabelLost: the disk did not take it, or the file is full.
        """
        line = json.dumps({"format": FORMAT, **label}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._writing:
            try:
                self._write(line)
            except OSError as error:
                raise LabelLost(f"the label was not kept: {error.strerror}.") from error
            with self._listing:
                self._newest.append(dict(label))

    def newest(
        self, limit: int, before: str | None = None, segment: str | None = None
    ) -> tuple[Sequence[Label], str | None]:
        """Up to ``limit`` labels, the newest first, and where the next ones begin (None: there are none).

        ``before``: only labels made before that one; of one that is not listed any more, none were.
        """
        with self._listing:
            labels = list(reversed(self._newest))
        if before is not None:
            ids = [label["id"] for label in labels]
            labels = labels[ids.index(before) + 1 :] if before in ids else []
        found = [label for label in labels if segment is None or label["segment_id"] == segment]
        page = found[:limit]
        return page, str(page[-1]["id"]) if len(found) > limit else None

    def _write(self, line: bytes) -> None:
        with self._path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                line = b"\n" + line
            if end + len(line) > self._most_bytes:
                raise LabelLost(
                    f"the label was not kept: the file has {end} bytes, and takes no more than {self._most_bytes}."
                    " Move it away and begin another."
                )
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, lines: Sequence[bytes]) -> int:
        """Take in the labels of an earlier run; how many lines were none."""
        damaged = 0
        for line in lines:
            label = _label(line)
            if label is None:
                damaged += 1
            else:
                self._newest.append(label)
        return damaged


def _label(line: bytes) -> Label | None:
    """The label that a line holds, or None."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT or not {"id", "segment_id"} <= found.keys():
        return None
    return found
