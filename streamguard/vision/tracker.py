"""Which face is which: faces joined into tracks by overlap and elapsed time.

Own code, since the maintained packages are heavier than the job: as of November 2026 `trackers` needs scipy,
supervision and the opencv-python build that must not stand beside opencv-python-headless; `supervision` needs
scipy and matplotlib; `norfair` needs scipy, filterpy and numpy below 2; and all of them count in frames.

The method is ByteTrack's (Zhang et al., ECCV 2022, arXiv 2110.06864): confident faces are matched first, weak
ones may then continue a track but never open one. Everything is a function of elapsed stream time, because
searches come every k-th frame and k may change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from streamguard.frames import COAST, F32, Box, Face, Track

_GRAIN: Final = 1e-6  # seconds: times that differ by less are the same


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How faces are joined. Times in seconds of stream time, overlaps as shares 0..1.

    ``high``: confidence that opens a track. ``overlap``: IoU with the predicted or the last box that continues
    one; ``overlap_weak``: the same for faces under ``high``. ``confirm``: detections before a track is shown, 1 for
    stills. ``memory``: a track not found for longer ends at the next search. ``hole``: no track is resumed over a
    longer stretch without any search. ``coast``: how long a motion is believed in. ``smoothing``: its time constant.
    ``nested``: share of the smaller of two boxes inside the other that makes them one face.
    ``most``: tracks at once; a crowd beyond it is counted in :attr:`Update.refused` and not followed.
    """

    high: float = 0.5
    overlap: float = 0.2
    overlap_weak: float = 0.4
    confirm: int = 2
    memory: float = 1.2
    hole: float = 2.0
    coast: float = COAST
    smoothing: float = 0.3
    nested: float = 0.7
    most: int = 50

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value, least = getattr(self, name), 1e-3 if name == "smoothing" else 0
            if not least <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a finite number from {least}")


class Update(NamedTuple):
    """What one search changed.

    ``matched``: the tracks found, each with its face. ``lost``: the tracks that ended now. ``tracks``: all alive.
    Each oldest first. ``refused``: faces that were not followed because there are too many.
    """

    matched: list[tuple[Track, Face]]
    lost: list[Track]
    tracks: list[Track]
    refused: int = 0


@dataclass(slots=True)
class _Path:
    """One face under way: where it was last found, and how it moves (pixels a second)."""

    box: Box
    confidence: float
    started: float
    updated: float
    id: int = 0
    hits: int = 1
    missed: bool = False
    motion: tuple[float, float] = field(default=(0.0, 0.0))

    def at(self, pts: float, coast: float) -> Box:
        """The box at ``pts``: constant velocity for up to ``coast`` seconds, then at rest; the size is kept."""
        elapsed = min(max(pts - self.updated, -coast), coast)
        dx, dy = self.motion[0] * elapsed, self.motion[1] * elapsed
        return Box(self.box.x1 + dx, self.box.y1 + dy, self.box.x2 + dx, self.box.y2 + dy)

    def found(self, pts: float, face: Face, smoothing: float) -> None:
        """Continue with a face. The first step sets the motion, later ones pull it, by elapsed time."""
        elapsed = pts - self.updated
        if elapsed > _GRAIN:
            (x, y), (new_x, new_y) = self.box.centre, face.box.centre
            pull = 1.0 if self.hits == 1 else 1 - math.exp(-elapsed / smoothing)
            self.motion = (
                self.motion[0] + pull * ((new_x - x) / elapsed - self.motion[0]),
                self.motion[1] + pull * ((new_y - y) / elapsed - self.motion[1]),
            )
        self.box, self.confidence, self.updated = face.box, face.confidence, pts
        self.hits += 1
        self.missed = False


class Tracker:
    """The tracks of one session of one stream; a new session takes a new tracker.

    A face that jumps (a cut, a re-entry elsewhere) overlaps no prediction: it gets a new id, since evidence
    about one picture of a face must not speak for another. A track gets its id and is shown when it is
    confirmed, with ``started`` at its first detection; a detection that is not repeated by the next search
    leaves no trace.
    """

    def __init__(self, settings: TrackerSettings | None = None, session: int = 1) -> None:
        self.settings = settings or TrackerSettings()
        self.session = session
        self._paths: list[_Path] = []
        self._ids = 0
        self._now = -math.inf

    def update(self, pts: float, faces: Sequence[Face]) -> Update:
        """Join the faces found at ``pts`` (seconds; an earlier one than the last counts as the last)."""
        self._now = pts = max(pts, self._now)
        lost = self._end_forgotten(pts)
        distinct = _distinct(faces, self.settings.nested)
        strong = [face for face in distinct if face.confidence >= self.settings.high]
        weak = [face for face in distinct if face.confidence < self.settings.high]

        # Confident faces continue any track, weak ones only a confirmed track that is still alone.
        pairs, waiting, strong = self._match(pts, self._paths, strong, self.settings.overlap)
        confirmed = [path for path in waiting if path.id]
        more, missed, _ = self._match(pts, confirmed, weak, self.settings.overlap_weak)
        pairs += more

        for path, face in pairs:
            path.found(pts, face, self.settings.smoothing)
        for path in missed:
            path.missed = True
        unconfirmed = {id(path) for path in waiting if not path.id}
        self._paths = [path for path in self._paths if id(path) not in unconfirmed]
        opened, refused = self._open(pts, strong)
        self._confirm()
        matched = [(self._track(path, pts), face) for path, face in pairs + opened if path.id]
        matched.sort(key=lambda pair: pair[0].id)
        return Update(matched, lost, self.predict(pts), refused)

    def predict(self, pts: float) -> list[Track]:
        """All confirmed tracks with their boxes where the faces should be at ``pts``, oldest first."""
        return [self._track(path, pts) for path in self._paths if path.id]

    def end(self) -> list[Track]:
        """End every track: the session is over."""
        lost = self.predict(self._now)
        self._paths = []
        return lost

    def _end_forgotten(self, pts: float) -> list[Track]:
        kept: list[_Path] = []
        lost: list[Track] = []
        for path in self._paths:
            limit = self.settings.memory if path.missed else max(self.settings.memory, self.settings.hole)
            if pts - path.updated <= limit + _GRAIN:
                kept.append(path)
            elif path.id:
                lost.append(self._track(path, pts))
        self._paths = kept
        return lost

    def _match(
        self, pts: float, paths: list[_Path], faces: list[Face], overlap: float
    ) -> tuple[list[tuple[_Path, Face]], list[_Path], list[Face]]:
        """Pairs by falling overlap, the paths and the faces left over."""
        if not paths or not faces:
            return [], paths, faces
        boxes = np.array([face.box for face in faces], np.float32)
        going_on = np.array([path.at(pts, self.settings.coast) for path in paths], np.float32)
        turning = np.array([path.box for path in paths], np.float32)  # heads stop and turn back within one search
        shares = np.maximum(_iou(going_on, boxes), _iou(turning, boxes))
        pairs: list[tuple[_Path, Face]] = []
        free_paths, free_faces = set(range(len(paths))), set(range(len(faces)))
        rows, columns = np.nonzero(shares >= overlap)
        for best in np.argsort(-shares[rows, columns], kind="stable").tolist():
            row, column = int(rows[best]), int(columns[best])
            if row in free_paths and column in free_faces:
                free_paths.remove(row)
                free_faces.remove(column)
                pairs.append((paths[row], faces[column]))
        return pairs, [paths[i] for i in sorted(free_paths)], [faces[i] for i in sorted(free_faces)]

    def _open(self, pts: float, faces: list[Face]) -> tuple[list[tuple[_Path, Face]], int]:
        room = max(0, self.settings.most - len(self._paths))
        opened = [(_Path(face.box, face.confidence, pts, pts), face) for face in faces[:room]]
        self._paths += [path for path, _ in opened]
        return opened, len(faces) - len(opened)

    def _confirm(self) -> None:
        for path in self._paths:  # oldest first, then the most confident
            if not path.id and path.hits >= self.settings.confirm:
                self._ids += 1
                path.id = self._ids

    def _track(self, path: _Path, pts: float) -> Track:
        return Track(
            id=path.id,
            session=self.session,
            box=path.at(pts, self.settings.coast),
            confidence=path.confidence,
            started=path.started,
            updated=path.updated,
            missed=max(0.0, pts - path.updated),
            motion=path.motion,
        )


def _distinct(faces: Sequence[Face], nested: float) -> list[Face]:
    """The faces, most confident first, without those that lie inside another one or round it."""
    ordered = sorted(faces, key=lambda face: (-face.confidence, face.box))
    if len(ordered) < 2:
        return ordered
    boxes = np.array([face.box for face in ordered], np.float32)
    areas = _areas(boxes)
    same = _shared(boxes, boxes) >= nested * np.minimum(areas[:, None], areas[None, :])
    kept: list[int] = []
    for index, row in enumerate(same):
        if not row[kept].any():
            kept.append(index)
    return [ordered[index] for index in kept]


def _iou(a: F32, b: F32) -> F32:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over union."""
    shared = _shared(a, b)
    return shared / (_areas(a)[:, None] + _areas(b)[None, :] - shared)


def _shared(a: F32, b: F32) -> F32:
    """(N, 4) and (M, 4) boxes -> (N, M) areas of their intersections."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def _areas(boxes: F32) -> F32:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)
