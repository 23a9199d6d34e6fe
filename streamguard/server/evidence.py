"""The evidence folders, read alone: ``<folder>/<stream>/<segment>/<file>``, and nothing that lies elsewhere.

A name that could lead out (a separator, a leading dot) is no name here, and a symbolic link on the way is not followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_MOST: Final = 64  # files of one segment that are listed
TYPES: Final = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/matroska",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
}
"""What is given out, by the ending of its name."""


class EvidenceFile(NamedTuple):
    """A file of a segment: its name, bytes, and where it lies."""

    name: str
    size: int
    path: Path


class EvidenceFolder:
    """Looks evidence up. Every call reads the disk."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    def files(self, segment: str) -> Sequence[EvidenceFile] | None:
        """The files of a segment by name; None if it has no folder."""
        folder = self._of(segment)
        if folder is None:
            return None
        found = (self._file(folder, name) for name in sorted(_names(folder))[:_MOST])
        return [file for file in found if file is not None]

    def file(self, segment: str, name: str) -> EvidenceFile | None:
        """One file of a segment, or None."""
        folder = self._of(segment)
        return None if folder is None else self._file(folder, name)

    def _of(self, segment: str) -> Path | None:
        if not _NAME.fullmatch(segment):
            return None
        for stream in _names(self._folder):
            folder = self._folder / stream / segment
            if _is(folder.parent, stat.S_ISDIR) and _is(folder, stat.S_ISDIR):
                return folder
        return None

    def _file(self, folder: Path, name: str) -> EvidenceFile | None:
        path = folder / name
        if not _NAME.fullmatch(name) or path.suffix not in TYPES or not _is(path, stat.S_ISREG):
            return None
        return EvidenceFile(name, path.stat().st_size, path)


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of that kind itself, rather than a link to it."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return kind(mode)
