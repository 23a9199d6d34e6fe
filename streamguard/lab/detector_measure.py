"""How good the face detector is: measured on its engine, through the serving letterbox and backend.

Average precision follows COCO: detections of all pictures in order of score, each matched to the free
face it overlaps most, precision made monotone and averaged over 101 recall levels.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.errors import InputMissing
from streamguard.frames import F32, U8, Box
from streamguard.inference.backend import create_backend, run
from streamguard.inference.engines import Engine
from streamguard.lab.detector_data import Labelled
from streamguard.lab.statistics import wilson
from streamguard.pixels import letterbox, picture_of_rgb
from streamguard.vision.detector import FaceDecoder

F64 = npt.NDArray[np.float64]
IOUS = tuple(0.5 + 0.05 * i for i in range(10))
FLOOR = 0.001
"""Lowest score that enters average precision."""

PRECISION = 0.97
"""What the committed confidence holds on held-out pictures."""

WIDTHS = (6.0, 8.0, 12.0, 24.0, 48.0, 320.0)
"""Borders of the face width classes, px at the network's input (x 4 = px in a 720p frame)."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Detections of one picture: ``boxes`` (N, 4) x1 y1 x2 y2 in picture pixels, ``scores`` (N,), best first."""

    boxes: F32
    scores: F32


Detector = Callable[[U8], Found]


def engine_detector(engine: Engine, variant: str, backend: str = "openvino") -> Detector:
    """A detector that keeps all scores down to FLOOR: one picture (H, W, 3) uint8 RGB at a time."""
    completions: SimpleQueue[Any] = SimpleQueue()
    device = create_backend(backend, engine, variant, completions, slots=1)
    pad = int(engine.manifest["preprocessing"]["pad"])
    committed = FaceDecoder.of(engine.manifest)
    decoder = FaceDecoder(FLOOR, committed.iou, committed.top_k)

    def detect(rgb: U8) -> Found:
        boxed, place = letterbox(picture_of_rgb(rgb), engine.input.width, engine.input.height, pad)
        raw = run(device, completions, boxed[None])[0]
        faces = decoder.decode(raw, place, rgb.shape[1], rgb.shape[0])
        return Found(corners([face.box for face in faces]), np.array([face.confidence for face in faces], np.float32))

    return detect


def corners(boxes: Sequence[Box]) -> F32:
    """Boxes as (N, 4) float32."""
    return np.array(boxes, np.float32).reshape(-1, 4)


def ious(a: F32, b: F32) -> F32:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9), np.float32)


def matched(found: Found, faces: F32, iou: float) -> npt.NDArray[np.int64]:
    """For each detection, best score first: the index of the face it takes, or -1."""
    taken = np.full(len(found.boxes), -1, np.int64)
    if not len(faces):
        return taken
    overlap = ious(found.boxes, faces)
    for i in np.flatnonzero(overlap.max(1) >= iou):  # the rest can't take any
        best = int(overlap[i].argmax())
        if overlap[i, best] >= iou:
            taken[i] = best
            overlap[:, best] = -1
    return taken


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Detections of one picture against its faces: ``right[i, t]`` at IoU threshold ``IOUS[t]``."""

    scores: F32
    right: npt.NDArray[np.bool_]
    faces: int


def hits(found: Found, faces: Sequence[Box]) -> Hits:
    """Match at every threshold of IOUS."""
    truth = corners(faces)
    right = np.stack([matched(found, truth, iou) >= 0 for iou in IOUS], 1)
    return Hits(found.scores, right, len(faces))


def average_precision(pictures: Sequence[Hits]) -> F64:
    """AP at each threshold of IOUS, 0..1."""
    scores = np.concatenate([p.scores for p in pictures])
    right = np.concatenate([p.right for p in pictures])[np.argsort(-scores, kind="stable")]
    faces = max(1, sum(p.faces for p in pictures))
    hit = np.cumsum(right, 0)
    recall = hit / faces
    precision = hit / np.arange(1, len(right) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], 0)[::-1]
    levels = np.linspace(0, 1, 101)
    result = np.zeros(len(IOUS))
    for t in range(len(IOUS)):
        place = np.searchsorted(recall[:, t], levels, side="left")
        result[t] = np.append(precision[:, t], 0.0)[place].mean()
    return result


def precision_summary(pictures: Sequence[Hits], seed: int = 0, draws: int = 200) -> dict[str, Any]:
    """mAP50, mAP50-95 with 95 % bootstrap intervals over pictures, and n."""
    rng = np.random.default_rng(seed)
    value = average_precision(pictures)
    n = len(pictures)
    resampled = [average_precision([pictures[i] for i in rng.integers(0, n, n)]) for _ in range(draws)]
    drawn = np.array([(r[0], r.mean()) for r in resampled])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {
        "map50": round(float(value[0]), 4),
        "map50_interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "map50_95": round(float(value.mean()), 4),
        "map50_95_interval": [round(float(low[1]), 4), round(float(high[1]), 4)],
        "pictures": len(pictures),
        "faces": sum(p.faces for p in pictures),
    }


def best_confidence(pictures: Sequence[Hits], precision: float = PRECISION) -> float:
    """The lowest score (two decimals, 0.05..0.50) at which ``precision`` of the detections over ``pictures`` are right.

    Right is IoU 0.5. 0.50 where none is: above it the tracker has nothing left to hold a face through a weak
    moment with. Not the highest F1: on crowded composites that buys faces of 8 px with boxes on patterned cloth.
    """
    scores = np.concatenate([p.scores for p in pictures])
    right = np.concatenate([p.right[:, 0] for p in pictures])
    for confidence in np.round(np.arange(0.05, 0.50, 0.01), 2):
        called = scores >= confidence
        if called.any() and right[called].mean() >= precision:
            return float(confidence)
    return 0.50


def at_confidence(pictures: Sequence[Hits], confidence: float) -> dict[str, Any]:
    """Precision and recall at IoU 0.5 of detections at or above ``confidence``."""
    called = sum(int((p.scores >= confidence).sum()) for p in pictures)
    right = sum(int(p.right[p.scores >= confidence, 0].sum()) for p in pictures)
    faces = sum(p.faces for p in pictures)
    return {
        "precision": share(right, called),
        "recall": share(right, faces),
    }


def share(count: int, of: int) -> dict[str, Any]:
    """A share with its Wilson 95 % interval."""
    if of == 0:
        return {"count": count, "of": 0, "value": None, "interval": None}
    low, high = wilson(count, of)
    return {"count": count, "of": of, "value": round(count / of, 4), "interval": [round(low, 4), round(high, 4)]}


def recall_by_width(detect: Detector, items: Sequence[Labelled], size: int, confidence: float) -> dict[str, Any]:
    """Recall at IoU 0.5 in classes of face width at the network's input."""
    seen = np.zeros((2, len(WIDTHS) - 1), int)
    for item in items:
        found = above(detect(item.picture), confidence)
        scale = min(size / side for side in item.size)
        caught = set(matched(found, corners(item.boxes), 0.5).tolist())
        for i, box in enumerate(item.boxes):
            k = int(np.searchsorted(WIDTHS, box.width * scale, side="right")) - 1
            if 0 <= k < len(WIDTHS) - 1:
                seen[:, k] += (i in caught, 1)
    classes = [f"{low:g}-{high:g}" for low, high in pairwise(WIDTHS)]
    return {name: share(int(seen[0, k]), int(seen[1, k])) for k, name in enumerate(classes) if seen[1, k]}


def above(found: Found, confidence: float) -> Found:
    """The detections at or above ``confidence``."""
    kept = found.scores >= confidence
    return Found(found.boxes[kept], found.scores[kept])


def hand_boxes(root: Path) -> list[Labelled]:
    """The pictures of ``dlib_faces`` with their hand-made boxes.

    Raises:
        InputMissing: the folder or one of its files is absent.
    """
    items = []
    for listing in ("training.xml", "testing.xml"):
        if not (root / listing).is_file():
            raise InputMissing(f"'{root / listing}' does not exist. Point STREAMGUARD_DATA at the data folder.")
        for image in ET.parse(root / listing).getroot().iter("image"):
            bgr = cv2.imread(str(root / image.attrib["file"]))
            if bgr is None:
                raise InputMissing(f"'{root / image.attrib['file']}' can't be read.")
            sides = [[float(b.attrib[k]) for k in ("left", "top", "width", "height")] for b in image.iter("box")]
            boxes = tuple(Box(x, y, x + w, y + h) for x, y, w, h in sides)
            items.append(Labelled(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), boxes))
    return items


def teacher(weights: Path, size: int, lowest: float = 0.6) -> Detector:
    """YuNet on the same letterbox, for comparison, its scores from ``lowest`` on. Raises InputMissing: no weights."""
    if not weights.is_file():
        raise InputMissing(f"'{weights}' does not exist. Point STREAMGUARD_DATA at the data folder.")
    net = cv2.FaceDetectorYN.create(
        str(weights), "", (size, size), score_threshold=lowest, nms_threshold=0.5, top_k=300
    )

    def detect(rgb: U8) -> Found:
        boxed, place = letterbox(picture_of_rgb(rgb), size, size)
        _, rows = net.detect(cv2.cvtColor(boxed, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15), np.float32) if rows is None else rows[np.argsort(-rows[:, 14])]
        boxes = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), 1)
        return Found(place.to_picture(boxes), rows[:, 14])

    return detect


def hand_recall(detect: Detector, items: Sequence[Labelled], confidence: float) -> dict[str, Any]:
    """Recall against hand boxes at IoU 0.5 and at 0.3 (their convention is a square), detections in all."""
    found = [above(detect(item.picture), confidence) for item in items]
    result: dict[str, Any] = {}
    for iou in (0.5, 0.3):
        count = sum(int((matched(f, corners(i.boxes), iou) >= 0).sum()) for f, i in zip(found, items, strict=True))
        result[f"iou_{iou:g}"] = share(count, sum(len(i.boxes) for i in items))
    result["detections"] = sum(len(f.scores) for f in found)
    return result


def difference(one: Detector, other: Detector, items: Sequence[Labelled], confidence: float) -> dict[str, Any]:
    """How far ``other`` is from ``one``: corner positions (px of a picture) and scores of detections both make."""
    pixels: list[float] = []
    scores: list[float] = []
    lost = 0
    for item in items:
        a, b = above(one(item.picture), confidence), above(other(item.picture), confidence)
        taken = matched(b, a.boxes, 0.5)
        pairs = [(int(t), i) for i, t in enumerate(taken) if t >= 0]
        lost += len(a.scores) + len(b.scores) - 2 * len(pairs)
        pixels += [float(np.abs(a.boxes[i] - b.boxes[j]).max()) for i, j in pairs]
        scores += [float(abs(a.scores[i] - b.scores[j])) for i, j in pairs]
    result: dict[str, Any] = {"pairs": len(pixels), "unpaired": lost}
    for name, values, digits in (("box_px", pixels, 3), ("score", scores, 4)):
        result[f"{name}_mean"] = round(float(np.mean(values)), digits) if values else None
        result[f"{name}_p99"] = round(float(np.percentile(values, 99)), digits) if values else None
    return result
