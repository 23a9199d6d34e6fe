"""The face file: faces cut from video, in one HDF5 file that grows a video at a time.

Row ``i`` of every dataset speaks of the same face (:data:`COLUMNS`). ``done/*`` has a row for each video worked off;
it is written after the video's faces, so that faces beyond the last mark are the remains of a broken run and are cut
off when it goes on. The file is closed between two videos: a run that is killed while it decodes leaves it whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.frames import U8, Box
from streamguard.lab.layouts import Clip
from streamguard.lab.phash import U64

FORMAT: Final = "streamguard-faces-1"
_TEXT: Final = h5py.string_dtype()

COLUMNS: Final[dict[str, tuple[tuple[int, ...], Any]]] = {
    "identity": ((), _TEXT),  # people separated by |, "" where the data set names none
    "video": ((), _TEXT),  # key of the clip
    "original": ((), _TEXT),  # key of the recording it was made of
    "source": ((), _TEXT),
    "generator": ((), _TEXT),
    "hint": ((), _TEXT),  # the authors' split
    "label": ((), np.uint8),  # 1 = fake
    "frame": ((), np.int32),  # number in the video
    "pts": ((), np.float32),  # seconds
    "track": ((), np.int32),
    "confidence": ((), np.float32),
    "box": ((4,), np.float32),  # x1, y1, x2, y2 in pixels of the frame
    "face": ((4,), np.float32),  # the same box in pixels of the stored picture
    "phash": ((), np.uint64),
}
_CHUNK: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class FaceCut:
    """One face cut from a frame: (S, S, 3) uint8 RGB, and where it was. Boxes as in :data:`COLUMNS`."""

    picture: U8
    box: Box
    face: Box
    frame: int
    pts: float
    track: int
    confidence: float
    phash: int


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one video: faces kept, faces dropped by reason, and what stopped its reading, if anything."""

    video: str
    label: str
    kept: int
    dropped: dict[str, int]
    error: str | None = None


class FaceFile:
    """An open door to a face file. ``config`` is what it was made with.

    Raises:
        InputMissing: no such file. UsageError: not a face file.
        InputUnreadable: damaged, or in use by another process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputMissing(f"face file '{path}' does not exist. Make it with `streamguard lab faces`.")
        with self._open("r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UsageError(f"'{path}' is a foreign HDF5 file: it lacks the mark {FORMAT}. Name another file.")
            self.config: dict[str, Any] = json.loads(file.attrs["config"])

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], size: int) -> FaceFile:
        """An empty file for pictures of ``size`` pixels square."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "x") as file:
            shape = (0, size, size, 3)
            file.create_dataset(
                "pictures", shape, np.uint8, maxshape=(None, *shape[1:]), chunks=(1, *shape[1:]), compression="lzf"
            )
            for name, (extra, kind) in COLUMNS.items():
                chunks = (_CHUNK, *extra)
                file.create_dataset(name, (0, *extra), kind, maxshape=(None, *extra), chunks=chunks)
            file.create_dataset("done/outcome", (0,), _TEXT, maxshape=(None,), chunks=(_CHUNK,))
            file.create_dataset("done/rows", (0,), np.int64, maxshape=(None,), chunks=(_CHUNK,))
            file.attrs["format"], file.attrs["config"], file.attrs["complete"] = FORMAT, json.dumps(config), False
        return cls(path)

    def _open(self, mode: str) -> h5py.File:
        try:
            return h5py.File(self.path, mode)
        except OSError as error:
            raise InputUnreadable(
                f"face file '{self.path}' can't be opened: it is damaged, or another process writes it. "
                "End that one, or delete the file and make it anew."
            ) from error

    @property
    def complete(self) -> bool:
        """Whether every video was worked off."""
        with self._open("r") as file:
            return bool(file.attrs["complete"])

    def finish(self) -> None:
        """Every video was worked off."""
        with self._open("r+") as file:
            file.attrs["complete"] = True

    def repair(self) -> list[Done]:
        """Cut off what a broken run left behind the last whole video; returns what was worked off."""
        with self._open("r+") as file:
            marks = min(len(file["done/outcome"]), len(file["done/rows"]))
            rows = int(file["done/rows"][marks - 1]) if marks else 0
            for name in ("pictures", *COLUMNS):
                if len(file[name]) < rows:
                    raise InputUnreadable(f"face file '{self.path}' is damaged: '{name}' is short. Make it anew.")
                file[name].resize(rows, axis=0)
            for name in ("done/outcome", "done/rows"):
                file[name].resize(marks, axis=0)
        return self.done()

    def append(self, clip: Clip, faces: Sequence[FaceCut], done: Done) -> None:
        """Add one video: first its faces, then its mark."""
        with self._open("r+") as file:
            start = int(file["done/rows"][-1]) if len(file["done/rows"]) else 0
            end = start + len(faces)
            if faces:
                file["pictures"].resize(end, axis=0)
                for row, face in enumerate(faces, start):
                    file["pictures"][row] = face.picture
                for name, values in _columns(clip, faces).items():
                    file[name].resize(end, axis=0)
                    file[name][start:end] = values
                file.flush()
            for name, value in (("done/rows", end), ("done/outcome", json.dumps(asdict(done)))):
                file[name].resize(len(file[name]) + 1, axis=0)
                file[name][-1] = value

    def done(self) -> list[Done]:
        """What became of each video worked off so far."""
        with self._open("r") as file:
            return [Done(**json.loads(text)) for text in file["done/outcome"].asstr()[:]]

    def column(self, name: str) -> np.ndarray:
        """One of :data:`COLUMNS`, whole; text as str objects."""
        with self._open("r") as file:
            return np.asarray(file[name].asstr()[:] if COLUMNS[name][1] is _TEXT else file[name][:])

    def hashes(self) -> U64:
        """(N,) uint64 perceptual hashes."""
        return np.asarray(self.column("phash"), np.uint64)

    def pictures(self, rows: Sequence[int]) -> list[U8]:
        """The pictures of some rows, each (S, S, 3) uint8 RGB."""
        with self._open("r") as file:
            return [np.asarray(file["pictures"][row], np.uint8) for row in rows]

    def sha256(self) -> str:
        """Of the whole file: what a split is bound to."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _columns(clip: Clip, faces: Sequence[FaceCut]) -> dict[str, Any]:
    count = len(faces)
    same: dict[str, Any] = {
        "identity": "|".join(clip.identities), "video": clip.key, "original": clip.original, "source": clip.source,
        "generator": clip.generator, "hint": clip.hint, "label": int(clip.label == "fake"),
    }  # fmt: skip
    columns: dict[str, Any] = {name: [value] * count for name, value in same.items()}
    for name in ("frame", "pts", "track", "confidence", "box", "face", "phash"):
        columns[name] = np.array([getattr(face, name) for face in faces], COLUMNS[name][1])
    return columns
