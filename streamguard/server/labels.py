"""What people say of segments, kept: JSON Lines, one label a line, appended and flushed to the disk before it counts.

A segment may be labelled more than once, by whomever: the last line about it is what holds, those before it are its
history. Nothing is ever changed or removed. A line cut short by a crash is closed before the next one is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamguard.errors import StreamGuardError, UsageError

Label = Mapping[str, Any]


class LabelLost(StreamGuardError):
    """A label could not be kept."""


class LabelFile:
    """Appends labels. One owner; every call blocks until the disk has what it says.

    Raises:
        UsageError: the file can't be opened for appending.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        try:
            with self._path.open("ab"):
                pass
        except OSError as error:
            raise UsageError(
                f"api.labels: '{path}' can't take labels: {error.strerror}. Name a file in an existing folder."
            ) from error

    def append(self, label: Label) -> None:
        """Keep a label.

        Raises:
            LabelLost: the disk did not take it.
        """
        line = json.dumps(label, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            with self._path.open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise LabelLost(f"the label was not kept: {error.strerror}.") from error
