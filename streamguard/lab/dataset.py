"""The supplied pictures: a manifest, tar archives and face boxes under ``$STREAMGUARD_DATA``."""

from __future__ import annotations

import csv
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.frames import U8, Box


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the manifest. ``group`` ties what must stay on one side of a split."""

    path: str
    label: str
    source: str
    generator: str
    group: str
    split: str
    face: Box | None


class Dataset:
    """Pictures in tar archives, described by ``manifest.csv`` and ``boxes.csv``.

    >>> data = Dataset.from_environment()                              # doctest: +SKIP
    >>> rgb = data.read(next(data.entries(source="dfdc", split="train")))  # doctest: +SKIP

    Raises:
        InputMissing: the folder or its manifest is absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / "manifest.csv").is_file():
            raise InputMissing(f"data folder '{root}' has no manifest.csv. Point STREAMGUARD_DATA at the data folder.")
        self._archives: dict[str, tarfile.TarFile] = {}

    @classmethod
    def from_environment(cls) -> Dataset:
        """The folder that ``$STREAMGUARD_DATA`` names."""
        root = os.environ.get("STREAMGUARD_DATA")
        if not root:
            raise UsageError("STREAMGUARD_DATA is not set. Set it to the folder that holds manifest.csv.")
        return cls(Path(root))

    def close(self) -> None:
        """Close the archives; the next read opens them again."""
        while self._archives:
            self._archives.popitem()[1].close()

    @cached_property
    def manifest(self) -> tuple[Entry, ...]:
        """All rows of ``manifest.csv``, in file order."""
        with (self.root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            return tuple(_entry(row) for row in csv.DictReader(file))

    @cached_property
    def boxes(self) -> dict[str, tuple[tuple[Box, float], ...]]:
        """``boxes.csv``: path -> (box, teacher's score) of every face in that picture."""
        found: dict[str, list[tuple[Box, float]]] = defaultdict(list)
        with (self.root / "boxes.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                x, y, w, h = (float(row[key]) for key in "xywh")
                found[row["path"]].append((Box(x, y, x + w, y + h), float(row["score"])))
        return {path: tuple(boxes) for path, boxes in found.items()}

    def entries(
        self, *, source: str | None = None, split: str | None = None, label: str | None = None
    ) -> Iterator[Entry]:
        """Rows of the manifest that match every filter given."""
        wanted: Iterable[tuple[str, str | None]] = (("source", source), ("split", split), ("label", label))
        filters = [(name, value) for name, value in wanted if value is not None]
        return (e for e in self.manifest if all(getattr(e, name) == value for name, value in filters))

    def read(self, entry: Entry) -> U8:
        """The picture as (H, W, 3) uint8 RGB. Raises InputUnreadable, naming the tar member."""
        picture = cv2.imdecode(np.frombuffer(self.read_bytes(entry), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise InputUnreadable(f"'{entry.path}' in '{self.root}' is not a picture.")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    def read_bytes(self, entry: Entry) -> bytes:
        """The file's bytes, out of its archive or its folder."""
        loose = self.root / entry.path
        if loose.is_file():
            return loose.read_bytes()
        name = entry.path.split("/", 1)[0]
        archive = self._archives.get(name)
        if archive is None:
            archive = self._archives[name] = tarfile.open(self.root / f"{name}.tar")  # noqa: SIM115 - kept open
        member = archive.extractfile(entry.path)
        if member is None:
            raise InputUnreadable(f"'{entry.path}' is no file in '{self.root / name}.tar'.")
        return member.read()


def _entry(row: dict[str, str]) -> Entry:
    face = None
    if row["face_x"]:
        x, y, w, h = (float(row[f"face_{key}"]) for key in "xywh")
        face = Box(x, y, x + w, y + h)
    return Entry(row["path"], row["label"], row["source"], row["generator"], row["group"], row["split"], face)
