"""The classifier's faces: which part of the data each belongs to, and where the face lies in it.

Every picture is looked at once by a face detector (YuNet): its box defines the crop exactly as the
serving detector, which learnt from the same boxes, will define it; its five landmarks are what a
forgery needs. The result is one HDF5 file, written source by source, so that a broken run goes on
where it stopped.

Parts (:class:`Parts`): ``fit`` is trained on, ``search`` compares nets, ``calibration`` sets temperature and
thresholds, ``measure`` counts false alarms and is never trained on. The manifest's split ``val`` is the
final test, part ``test`` of a store of its own: ``lab evaluate --final`` alone builds one, with :func:`final_part`. A
group never straddles two parts.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av
import cv2
import h5py
import numpy as np

from streamguard.errors import InputMissing, InputUnreadable
from streamguard.frames import F32, U8, Box
from streamguard.lab.dataset import Dataset, Entry
from streamguard.pixels import picture_of, rgb_of

Part = Literal["fit", "search", "calibration", "measure", "test"]
Finder = Callable[[U8], tuple[Box, F32] | None]

STILLS: Final[tuple[str, ...]] = ("dfdc", "openforensics", "stylegan")
SOURCES: Final = (*STILLS, "utkface", "talking")
SALT: Final = "streamguard-split-1"
TEACHER: Final = "weights/yunet_n_dynamic.onnx"
CONFIDENCE: Final = 0.6  # as boxes.csv
LONGEST_FACE: Final = 320.0  # pixels kept of a face in video; the net's input is smaller
FRAME_STEP: Final = 0.2  # seconds between the frames taken from a video
_ROW: Final = np.dtype([("label", "u1"), ("part", "S12"), ("group", "S96"), ("pts", "f4"), ("box", "f4", 4),
                        ("landmarks", "f4", (5, 2))])  # fmt: skip


def share_of(group: str, salt: str = SALT) -> float:
    """A number 0..1 that depends on ``group`` alone, the same on every machine and day."""
    digest = hashlib.sha256(f"{salt}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Parts:
    """Which part a picture or video belongs to; None if it stays closed (``val``, the clips).

    Stills of split ``train``: fit 70 %, search 15 %, calibration 15 % of the groups, by :func:`share_of`. UTKFace:
    half fit (as the ground of forgeries), half calibration. The talking people are few, so they are counted out:
    ordered by :func:`share_of`, the first half ``measure``, of the rest the first quarter calibration, the others fit.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        people = {e.group for e in entries if e.source == "talking" and e.path.startswith("talking/")}
        ordered = sorted(people, key=share_of)
        half = (len(ordered) + 1) // 2
        quarter = half + (len(ordered) - half + 2) // 4
        self._people: dict[str, Part] = dict.fromkeys(ordered[:half], "measure")
        self._people |= dict.fromkeys(ordered[half:quarter], "calibration")
        self._people |= dict.fromkeys(ordered[quarter:], "fit")

    def __call__(self, entry: Entry) -> Part | None:
        share = share_of(entry.group)
        if entry.source in STILLS and entry.split == "train":
            return "fit" if share < 0.70 else "search" if share < 0.85 else "calibration"
        if entry.source == "utkface":
            return "fit" if share < 0.5 else "calibration"
        if entry.source == "talking" and entry.path.startswith("talking/"):
            return self._people[entry.group]
        return None


def final_part(entry: Entry) -> Part | None:
    """``test`` for the stills of the manifest's ``val``, None for all else."""
    return "test" if entry.source in STILLS and entry.split == "val" else None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One face: (H, W, 3) uint8 RGB, its box and landmarks ((5, 2) float32) in pixels, label 1 = fake."""

    rgb: U8
    box: Box
    landmarks: F32
    label: int


class FaceFinder:
    """YuNet on one core. It knows its largest face, which is what the sources' labels speak of."""

    def __init__(self, weights: Path) -> None:
        if not weights.is_file():
            raise InputMissing(f"detector weights '{weights}' are missing. They belong to the data folder.")
        self._net = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), CONFIDENCE)

    def __call__(self, rgb: U8) -> tuple[Box, F32] | None:
        """The largest face of an (H, W, 3) uint8 RGB picture: box and (5, 2) landmarks, pixels."""
        factor = min(1.0, 640 / max(rgb.shape[:2]))
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        if factor < 1:
            bgr = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self._net.detect(bgr)
        if rows is None or not len(rows):
            return None
        row = max(rows, key=lambda r: float(r[2] * r[3])) / factor
        box = Box(float(row[0]), float(row[1]), float(row[0] + row[2]), float(row[1] + row[3]))
        return box, np.asarray(row[4:14], np.float32).reshape(5, 2)


class FaceStore:
    """The faces of all sources in one HDF5 file: encoded pictures, and one row of facts for each.

    Raises:
        InputMissing: the file does not exist; :func:`build_store` makes it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputMissing(f"face store '{path}' does not exist. Make it first (lab.data.build_store).")
        self.path = path
        self._file: h5py.File | None = None
        with h5py.File(path, "r") as file:
            self._rows = {name: file[name]["rows"][:] for name in SOURCES if name in file}

    def __getstate__(self) -> dict[str, Any]:
        """What a process that makes batches takes along: all but the open file."""
        return {**self.__dict__, "_file": None}

    def rows(self, source: str) -> np.ndarray:
        """The structured rows of one source (label, part, group, pts, box, landmarks); empty if it has none."""
        return self._rows.get(source, np.zeros(0, _ROW))

    def find(self, source: str, part: Part, label: int | None = None) -> np.ndarray:
        """Row numbers, in file order."""
        rows = self.rows(source)
        chosen = rows["part"] == part.encode()
        if label is not None:
            chosen &= rows["label"] == label
        return np.flatnonzero(chosen)

    def read(self, source: str, index: int) -> Sample:
        """One face, decoded."""
        if self._file is None:
            self._file = h5py.File(self.path, "r")
        row = self._rows[source][index]
        picture = cv2.imdecode(self._file[source]["pictures"][index], cv2.IMREAD_COLOR)
        if picture is None:
            raise InputUnreadable(
                f"face {index} of '{source}' in '{self.path}' is damaged. Delete the file, make it anew."
            )
        rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
        return Sample(rgb, Box(*map(float, row["box"])), np.asarray(row["landmarks"], np.float32), int(row["label"]))


def build_store(
    data: Dataset, path: Path, sources: tuple[str, ...] = SOURCES, finder: Finder | None = None,
    parts: Callable[[Entry], Part | None] | None = None,
) -> FaceStore:  # fmt: skip
    """Detect the faces of every open part once, with YuNet unless another ``finder`` is given.

    ``parts`` says which part an entry belongs to, None if to none; :class:`Parts` by default. Sources already
    complete in ``path`` are kept, one that was broken off is begun anew. A store that lacks nothing is only read, so
    that several runs share it.
    """
    if _complete(path, sources):
        return FaceStore(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    of = parts or Parts(data.manifest)
    with h5py.File(path, "a") as file:
        for source in sources:
            if source in file and file[source].attrs.get("complete", False):
                continue
            if source in file:
                del file[source]
            finder = finder or FaceFinder(data.root / TEACHER)
            found = ((entry, part) for entry in data.entries(source=source) if (part := of(entry)) is not None)
            _write_source(file.create_group(source), data, source, finder, found)
    return FaceStore(path)


def _complete(path: Path, sources: tuple[str, ...]) -> bool:
    if not path.is_file():
        return False
    with h5py.File(path, "r") as file:
        return all(source in file and file[source].attrs.get("complete", False) for source in sources)


def _write_source(
    group: h5py.Group, data: Dataset, source: str, finder: Finder, chosen: Iterable[tuple[Entry, Part]]
) -> None:
    pictures: list[np.ndarray] = []
    rows: list[tuple[object, ...]] = []
    missed = 0
    for entry, part in chosen:
        found = _video_faces(data, entry, finder) if source == "talking" else _still_face(data, entry, finder)
        before = len(rows)
        for encoded, pts, box, landmarks in found:
            pictures.append(encoded)
            rows.append((entry.label == "fake", part, entry.group, pts, tuple(box), landmarks))
        missed += len(rows) == before
    stored = group.create_dataset("pictures", (len(pictures),), dtype=h5py.vlen_dtype(np.uint8))
    for i, encoded in enumerate(pictures):
        stored[i] = encoded
    group.create_dataset("rows", data=np.array(rows, _ROW))
    group.attrs["missed"] = missed
    group.attrs["complete"] = True
    logging.getLogger(__name__).info("%s: %d faces; %d files without one", source, len(rows), missed)


def _still_face(data: Dataset, entry: Entry, finder: Finder) -> Iterator[tuple[np.ndarray, float, Box, F32]]:
    face = finder(data.read(entry))
    if face is not None:  # the file's own bytes: no compression is added
        yield np.frombuffer(data.read_bytes(entry), np.uint8), 0.0, *face


def _video_faces(data: Dataset, entry: Entry, finder: Finder) -> Iterator[tuple[np.ndarray, float, Box, F32]]:
    """A frame every :data:`FRAME_STEP` seconds, cut to the face and its surroundings, losslessly encoded."""
    for pts, rgb in frames_every(FRAME_STEP, data.root / entry.path):
        face = finder(rgb)
        if face is None:
            continue
        cut, box, landmarks = _surroundings(rgb, *face)
        yield cv2.imencode(".png", cv2.cvtColor(cut, cv2.COLOR_RGB2BGR))[1].ravel(), pts, box, landmarks


def frames_every(step: float, video: Path) -> Iterator[tuple[float, U8]]:
    """Time in seconds and (H, W, 3) uint8 RGB of a frame every ``step`` seconds of ``video``."""
    with av.open(str(video)) as container:
        due = 0.0
        for frame in container.decode(video=0):
            pts = float(frame.time or 0.0)
            if pts >= due:
                due = pts + step - 0.01
                yield pts, rgb_of(picture_of(frame))


def _surroundings(rgb: U8, box: Box, landmarks: F32) -> tuple[U8, Box, F32]:
    """The face with 40 % of it on each side, on even pixels, no larger than :data:`LONGEST_FACE` asks."""
    height, width = rgb.shape[:2]
    reach = 0.4 * max(box.width, box.height)
    x1, y1 = (2 * (int(max(0.0, v - reach)) // 2) for v in (box.x1, box.y1))
    x2, y2 = (int(min(limit, v + reach)) for v, limit in ((box.x2, width), (box.y2, height)))
    cut = rgb[y1:y2, x1:x2]
    factor = min(1.0, LONGEST_FACE / max(box.width, box.height))
    if factor < 1:
        cut = np.asarray(cv2.resize(cut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    moved = Box(*(float((v - o) * factor) for v, o in zip(box, (x1, y1, x1, y1), strict=True)))
    return cut, moved, np.asarray((landmarks - np.array([x1, y1])) * factor, np.float32)
