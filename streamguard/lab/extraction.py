"""From one clip to its faces: frames through the file source, faces by the shipped detector, tracks, crops.

Which faces carry the clip's label:

* a real video: every face of a track seen at least twice;
* a fake video: only the manipulated face; the rest is dropped as ``bystander``. It is the track seen most often, if
  that is in a quarter of the searched frames or more and others are beside it in less than 0.6 of its own
  (:data:`COVER`, :data:`BESIDE`). Otherwise the recording that the clip was made of decides, if it is at hand: the
  tracks that differ from it by :data:`CHANGED` levels, and by half of what the most changed one does, are manipulated.
  Where neither speaks, all are dropped as ``ambiguous``.
* a picture, real or fake: the face that the manifest's box names, else the largest one. Were the smaller faces of real
  pictures kept and those of fakes dropped, size would tell the label.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tarfile import TarError
from threading import Lock
from typing import Any, Final, Self

import cv2
import numpy as np

from streamguard.errors import InputError, InputUnreadable
from streamguard.frames import F32, Box, Face, Frame, Picture
from streamguard.inference.backend import create_backend, run
from streamguard.inference.engines import Engine
from streamguard.ingest.container import FileSource
from streamguard.lab.data import share_of
from streamguard.lab.dataset import Dataset
from streamguard.lab.facefile import FaceCut
from streamguard.lab.layouts import Clip
from streamguard.lab.phash import phash
from streamguard.pixels import crop, crop_square, letterbox, picture_of_rgb
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.tracker import Tracker, TrackerSettings

BESIDE: Final = 0.6  # of the leading track's sightings with another face beside it: from there on it does not lead
COVER: Final = 0.25  # of the searched frames that a leading track is seen in
CHANGED: Final = 3.0  # levels of luma and chroma together, mean over a face; recompression alone stays below
AGREES: Final = 0.3  # overlap (IoU) with the box that a manifest names
_PATCH: Final = 32  # pixels; a face is compared with its original at this size, where noise has averaged out

Search = Callable[[Picture], list[Face]]
Original = Callable[[Clip], Clip | None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How faces are cut. ``margin``: share of the face's longer side added on each side. Sizes in px, times in s."""

    frames: int = 8  # of a video, spread evenly
    margin: float = 0.4  # the training chain cuts up to this much round the face
    size: int = 256
    seed: int = 1  # where in its interval each video's frames lie
    step: float = 0.2  # between searches: tracks need more than the frames kept
    smallest: float = 32.0  # longer side of a face in the frame

    @property
    def tracker(self) -> TrackerSettings:
        """Faces count from their first sighting; those seen once are dropped afterwards."""
        return TrackerSettings(confirm=1)


class Searcher:
    """The shipped face detector, as serving runs it, for one thread."""

    def __init__(self, engine: Engine) -> None:
        self._completions: SimpleQueue[Any] = SimpleQueue()
        self._backend = create_backend("openvino", engine, "fp32", self._completions, slots=1)
        self._decoder = FaceDecoder.of(engine.manifest)
        self._width, self._height = engine.input.width, engine.input.height
        self._pad = int(engine.manifest["preprocessing"]["pad"])

    def __call__(self, picture: Picture) -> list[Face]:
        """The faces of a picture, most confident first."""
        boxed, place = letterbox(picture, self._width, self._height, self._pad)
        raw = run(self._backend, self._completions, boxed[None])[0]
        return self._decoder.decode(raw, place, picture.width, picture.height)


class Footage:
    """Opens clips: files through the file source, pictures in archives through the data set's own reader."""

    def __init__(self, root: Path) -> None:
        self._data = Dataset(root) if (root / "manifest.csv").is_file() else None
        self._lock = Lock()  # a tar file has one position

    @contextmanager
    def open(self, clip: Clip) -> Iterator[tuple[bool, float, Iterator[Frame]]]:
        """(whether it is a still, seconds from its first frame to its last, frames).

        Raises:
            InputError: on entering, or from the frames where the file is damaged.
        """
        if clip.entry is not None and self._data is not None and not clip.path.is_file():
            yield True, 0.0, iter([self._from_archive(clip)])
            return
        source = FileSource(clip.path, name=clip.key)
        with source.open(1) as connection:
            info = connection.info
            still, length = info.still, info.duration
            if length is None and not still:  # a stream without a header: only reading it tells
                with source.open(1) as measured:
                    length = max(frame.pts for frame in measured)
            elif length is not None:
                length -= 1 / info.fps if info.fps else 0.0
            yield still, max(0.0, length or 0.0), iter(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._data is not None:
            self._data.close()

    def _from_archive(self, clip: Clip) -> Frame:
        assert self._data is not None
        assert clip.entry is not None
        try:
            with self._lock:
                rgb = self._data.read(clip.entry)
        except (KeyError, OSError, TarError) as error:
            raise InputUnreadable(f"'{clip.key}' is not in its archive: {error}.") from error
        return Frame(clip.key, 1, 0, 0.0, 0.0, "file", picture_of_rgb(rgb))


@dataclass(slots=True)
class _Watched:
    """What was seen of a clip: the number of searches, those in which each track was seen, and the faces to keep."""

    still: bool
    searched: int = 0
    sightings: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    held: list[FaceCut] = field(default_factory=list)
    patches: list[F32] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    error: str | None = None


def extract(
    clip: Clip, footage: Footage, search: Search, recipe: Recipe, original: Original
) -> tuple[list[FaceCut], Counter[str], str | None]:
    """The faces of a clip that carry its label, how many were dropped for which reason, and what stopped its reading.

    ``original`` finds the recording that a fake was made of, None where it is not at hand.
    """
    watched = _watch(clip, footage, search, recipe)
    confirmed = [t for t, seen in watched.sightings.items() if len(seen) > 1 or watched.still]
    chosen, why = set(confirmed), ""
    if watched.still:
        chosen, why = _named_face(clip, watched.held), "bystander"
    elif clip.label == "fake" and confirmed:
        chosen, why = _manipulated(clip, watched, confirmed, footage, original)
    kept: list[FaceCut] = []
    for face in watched.held:
        if face.track not in confirmed:
            watched.dropped["unconfirmed"] += 1
        elif face.track not in chosen:
            watched.dropped[why] += 1
        elif max(face.box.width, face.box.height) < recipe.smallest:
            watched.dropped["too small"] += 1
        else:
            kept.append(face)
    return kept, watched.dropped, watched.error


def _watch(clip: Clip, footage: Footage, search: Search, recipe: Recipe) -> _Watched:
    watched = _Watched(still=False)
    try:
        with footage.open(clip) as (still, length, frames):
            watched.still = still
            wanted = [0.0] if still else _times(clip, length, recipe)
            _follow(frames, wanted, watched, search, recipe)
    except InputError as error:  # named by the caller; what decoded before is used
        watched.error = str(error)
    return watched


def _times(clip: Clip, length: float, recipe: Recipe) -> list[float]:
    phase = share_of(clip.key, f"frames-{recipe.seed}")
    return [(number + phase) / recipe.frames * length for number in range(recipe.frames)]


def _follow(frames: Iterator[Frame], wanted: list[float], watched: _Watched, search: Search, recipe: Recipe) -> None:
    """Search every ``step`` seconds and at each wanted time; keep the faces of the latter."""
    tracker = Tracker(recipe.tracker)
    next_search, next_wanted = -math.inf, 0
    grain = 1e-6
    for frame in frames:
        keep = next_wanted < len(wanted) and frame.pts >= wanted[next_wanted] - grain
        if frame.damaged or not (keep or frame.pts >= next_search - grain):
            continue
        next_search = frame.pts + recipe.step
        matched = tracker.update(frame.pts, search(frame.picture)).matched
        watched.searched += 1
        for track, _ in matched:
            watched.sightings[track.id].add(watched.searched)
        if not keep:
            continue
        while next_wanted < len(wanted) and frame.pts >= wanted[next_wanted] - grain:
            next_wanted += 1
        if not matched:
            watched.dropped["no face"] += 1
        for track, face in matched:
            watched.held.append(_cut(frame, face, track.id, recipe))
            watched.patches.append(_patch(frame.picture, face.box))


def _cut(frame: Frame, face: Face, track: int, recipe: Recipe) -> FaceCut:
    picture = crop(frame.picture, face.box, recipe.size, recipe.margin)
    x, y, side = crop_square(frame.picture.width, frame.picture.height, face.box, recipe.margin)
    scale = recipe.size / side
    inside = Box(*((value - start) * scale for value, start in zip(face.box, (x, y, x, y), strict=True)))
    return FaceCut(picture, face.box, inside, frame.index, frame.pts, track, face.confidence, phash(picture))


def _patch(picture: Picture, box: Box) -> F32:
    """Y, U and V of a face, (3, 32, 32) float32, 0..255."""
    small = []
    for plane, step in ((picture.y, 1), (picture.u, 2), (picture.v, 2)):
        x1, y1, x2, y2 = (int(value / step) for value in box)
        inside = plane[y1 : max(y1 + 1, y2), x1 : max(x1 + 1, x2)]
        small.append(cv2.resize(inside, (_PATCH, _PATCH), interpolation=cv2.INTER_AREA))
    return np.asarray(np.stack(small), np.float32)


def _named_face(clip: Clip, held: Sequence[FaceCut]) -> set[int]:
    named = None if clip.entry is None else clip.entry.face
    if named is None:
        return {max(held, key=lambda face: face.box.area).track} if held else set()
    best = max(held, key=lambda face: face.box.iou(named), default=None)
    return {best.track} if best is not None and best.box.iou(named) >= AGREES else set()


def _manipulated(
    clip: Clip, watched: _Watched, confirmed: Sequence[int], footage: Footage, original: Original
) -> tuple[set[int], str]:
    """The manipulated tracks of a fake video, and why the others are dropped."""
    leader = max(confirmed, key=lambda track: len(watched.sightings[track]))
    seen = watched.sightings[leader]
    others = set().union(*(watched.sightings[track] for track in confirmed if track != leader))
    if len(seen) >= COVER * watched.searched and len(seen & others) < BESIDE * len(seen):
        return {leader}, "bystander"
    recording = original(clip)
    changes = {} if recording is None else _changes(recording, watched, footage)
    most = max(changes.values(), default=0.0)
    if most < CHANGED:
        return set(), "ambiguous"
    return {track for track, change in changes.items() if change >= max(CHANGED, most / 2)}, "bystander"


def _changes(recording: Clip, watched: _Watched, footage: Footage) -> dict[int, float]:
    """Track -> how its faces differ from the same place of the recording: mean of |dY| + |dU| + |dV|."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for row, face in enumerate(watched.held):
        wanted[face.frame].append(row)
    found: dict[int, list[float]] = defaultdict(list)
    last = max(wanted, default=-1)
    try:
        with footage.open(recording) as (_, _, frames):
            for frame in frames:
                for row in wanted.get(frame.index, ()):
                    face = watched.held[row]
                    if face.box.x2 > frame.picture.width or face.box.y2 > frame.picture.height:
                        return {}  # of another size: nothing can be laid over it
                    change = np.abs(_patch(frame.picture, face.box) - watched.patches[row])
                    found[face.track].append(float(change.mean(axis=(1, 2)).sum()))
                if frame.index >= last:
                    break
    except InputError:  # the recording is named when its own turn comes
        return {}
    return {track: float(np.mean(values)) for track, values in found.items()}
