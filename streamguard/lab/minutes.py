"""Simulated minutes of real people: what a promise about false alarms is counted on.

Real video of many people is not to be had, and a promise of one false alarm in a hundred minutes needs hundreds of
them. So each minute here is *made* of one real still that nothing else used (the calibration half of UTKFace, a
person a picture): a hand-held camera films it - smooth pan, tilt, roll and zoom, light that wavers, sensor noise -
the film passes H.264, and the box wavers as a detector's does. The people in it do not speak, turn or leave; their
minutes differ by face, light, size, noise and compression alone. What is counted on them is called simulated
wherever it is told.

Stills that end within the square round the face, or are padded with black there, are passed over: no camera shows half
a face mirrored or a black wedge beside it, and a net has every reason to waver at such a seam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.errors import UsageError
from streamguard.frames import F32, U8, Box
from streamguard.ingest.demo import Hand
from streamguard.lab.augment import Crop, filmed
from streamguard.lab.data import FaceStore, Sample
from streamguard.pixels import crop

SOURCE: Final = "utkface"
RATE: Final = 5.0  # pictures a second: as often as a track is scored in an ordinary stream
LENGTH: Final = 60.0
SMALLEST, LARGEST = 80.0, 220.0  # pixels of the longer side of the face
CRFS: Final = (20, 32)
NOISE: Final = (0.5, 4.0)  # standard deviation, levels of 255
WAVER: Final = 0.012  # standard deviation of the box's centre and size, in shares of it
# Standard deviation of pan, tilt (shares of the face), roll (radians), zoom and gain (natural logarithms).
SHAKE: Final = np.array([0.09, 0.06, math.radians(2.5), 0.05, 0.07])
_FRAME: Final = 1.9  # side of the filmed picture in faces
# What a still may lack of the square round its face (shares of its side), and have of black in it (share, level).
_LACKING, _PADDED, _BLACK = 0.02, 0.05, 2


@dataclass(frozen=True, slots=True, eq=False)
class Minute:
    """One simulated minute: times (N,) in seconds and what the classifier sees, (N, S, S, 3) uint8 RGB."""

    group: str
    pts: F32
    pictures: U8


def minutes(store: FaceStore, target: Crop, count: int, seed: int = 11, length: float = LENGTH) -> Iterator[Minute]:
    """``count`` minutes of as many people, the same for the same ``seed``.

    Raises:
        UsageError: the store has fewer people left for calibration whose still shows the whole face.
    """
    pictures = store.find(SOURCE, "calibration", 0)
    groups = store.rows(SOURCE)["group"]
    people = pictures[np.unique(groups[pictures], return_index=True)[1]]
    order = np.random.default_rng(seed).permutation(people)
    whole = [index for index in order if _whole(store.read(SOURCE, int(index)))]
    if len(whole) < count:
        raise UsageError(
            f"{count} simulated minutes need as many people; the calibration part of '{SOURCE}' has {people.size}, "
            f"{len(whole)} of them on a still that shows the whole face."
        )
    for index in whole[:count]:
        drawn = np.random.default_rng([seed, int(index)])
        yield Minute(groups[index].decode(), *film(store.read(SOURCE, int(index)), drawn, target, length))


def film(sample: Sample, rng: np.random.Generator, target: Crop, length: float = LENGTH) -> tuple[F32, U8]:
    """The times and crops of one still, filmed for ``length`` seconds at :data:`RATE`."""
    count = max(1, round(length * RATE))
    side = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    size = round(side * _FRAME / 2) * 2
    sigma = float(rng.uniform(*NOISE))
    shots, boxes = [], []
    hand = Hand(rng, SHAKE, RATE)
    for _ in range(count):
        pan, tilt, roll, zoom, gain = hand.move()
        matrix = _aimed(sample.box, side * math.exp(zoom), roll, (pan * side, tilt * side), size)
        picture = cv2.warpAffine(sample.rgb, matrix, (size, size), flags=cv2.INTER_CUBIC,
                                 borderMode=cv2.BORDER_REFLECT_101)  # fmt: skip
        noise = rng.standard_normal((size, size, 1), np.float32) * np.float32(sigma)
        lit = picture.astype(np.float32) * np.float32(math.exp(gain)) + noise
        shots.append(np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8))
        boxes.append(_wavering(_moved(sample.box, matrix), rng))
    seen = filmed(shots, int(rng.integers(*CRFS)), rate=round(RATE))
    crops = [crop(picture, box, target.size, target.margin) for picture, box in zip(seen, boxes, strict=True)]
    return np.arange(count, dtype=np.float32) / np.float32(RATE), np.stack(crops)


def _whole(sample: Sample) -> bool:
    """Whether the still has all of the square round the face, and none of it is padding."""
    box, (height, width) = sample.box, sample.rgb.shape[:2]
    side = max(box.width, box.height)
    (x, y), half = box.centre, side / 2
    if max(half - x, half - y, x + half - width, y + half - height) > _LACKING * side:
        return False
    square = sample.rgb[max(0, round(y - half)) : round(y + half), max(0, round(x - half)) : round(x + half)]
    return bool((square.max(-1) <= _BLACK).mean() <= _PADDED)


def _aimed(box: Box, side: float, roll: float, move: tuple[float, float], size: int) -> npt.NDArray[np.float64]:
    """(2, 3) matrix from the still to the film: the face ``side`` pixels long, turned, ``move`` off the middle."""
    scale = side / max(box.width, box.height)
    linear = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    offset = np.array([size / 2, size / 2]) + np.array(move) - linear @ np.array(box.centre)
    return np.hstack((linear, offset[:, None]))


def _moved(box: Box, matrix: npt.NDArray[np.float64]) -> Box:
    """The box round the same face after ``matrix``; the roll is small, and a detector's box does not turn."""
    x, y = matrix @ np.array([*box.centre, 1.0])
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    half_w, half_h = box.width * scale / 2, box.height * scale / 2
    return Box(x - half_w, y - half_h, x + half_w, y + half_h)


def _wavering(box: Box, rng: np.random.Generator) -> Box:
    dx, dy, grow = rng.standard_normal(3) * WAVER
    x, y = box.centre[0] + dx * box.width, box.centre[1] + dy * box.height
    half_w, half_h = box.width * math.exp(grow) / 2, box.height * math.exp(grow) / 2
    return Box(x - half_w, y - half_h, x + half_w, y + half_h)
