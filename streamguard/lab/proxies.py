"""Whom do false alarms fall on? Real faces by what can be measured in a picture, without a guess at who they are.

Nobody's sex, age or origin is known here, and none is inferred: no figure by such groups exists. What is measured is
the picture: size of the face, light, sharpness, turn of the head, and the tone of the skin in this light, as the
individual typology angle (A. Chardon et al., "Skin colour typology and suntanning pathways", 1991) of both cheeks. Real
faces are cut into thirds by each, and the share that reaches the threshold `default` stands beside each third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.frames import F32, U8, Box
from streamguard.lab.augment import plain
from streamguard.lab.data import STILLS, FaceStore, Part, Sample
from streamguard.lab.statistics import wilson
from streamguard.lab.subjects import Subject
from streamguard.pixels import picture_of_rgb
from streamguard.vision.quality import sharpness_of

F64 = npt.NDArray[np.float64]
_PATCH: Final = 0.12  # units: half the side of a patch of cheek
_THIRDS: Final = ("lowest third", "middle third", "highest third")


def size(sample: Sample) -> float:
    """Longer side of the box, pixels."""
    return max(sample.box.width, sample.box.height)


def light(sample: Sample) -> float:
    """Mean luma inside the box, 0..255."""
    return float(cv2.cvtColor(_inside(sample.rgb, sample.box), cv2.COLOR_RGB2GRAY).mean())


def sharpness(sample: Sample) -> float:
    """As the quality gate measures it."""
    return sharpness_of(picture_of_rgb(sample.rgb), sample.box)


def turn(sample: Sample) -> float:
    """How far the nose lies from the middle of the eyes along their line, in distances of the eyes; 0 = frontal."""
    right, left, nose = sample.landmarks[:3].astype(np.float64)
    across = left - right
    return float(abs(np.dot(nose - (right + left) / 2, across)) / max(float(np.dot(across, across)), 1e-6))


def skin(sample: Sample) -> float:
    """Individual typology angle of the cheeks, degrees: the lighter the skin in this picture, the larger."""
    right, left, _, mouth_right, mouth_left = sample.landmarks
    unit = float(np.hypot(*(left - right)))
    patches = [_patch(sample.rgb, (eye + mouth) / 2, unit) for eye, mouth in ((right, mouth_right), (left, mouth_left))]
    lab = cv2.cvtColor(np.concatenate(patches)[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness, _, yellow = np.median(lab, axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3))))


PROXIES: Final[Mapping[str, Callable[[Sample], float]]] = {
    "size of the face, px": size,
    "mean luma": light,
    "sharpness": sharpness,
    "turn of the head": turn,
    "skin tone, ITA degrees": skin,
}


def alarms_by_proxy(store: FaceStore, part: Part, subject: Subject, each: int, seed: int = 7) -> dict[str, Any]:
    """``faces``, and for each proxy its thirds: range, ``count`` of ``of`` at the threshold, with a Wilson interval."""
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for source, of in (*((still, part) for still in STILLS), ("talking", "measure")):
        rows = rng.permutation(store.find(source, of, 0))[:each]
        samples += [store.read(source, int(row)) for row in rows]
    pictures = np.stack([plain(sample.rgb, sample.box, subject.crop) for sample in samples])
    reached = subject.calibrated(subject.score(pictures)) >= (subject.threshold or 0.0)
    values = {name: np.array([measure(sample) for sample in samples]) for name, measure in PROXIES.items()}
    return {"faces": len(samples), "above": int(reached.sum()),
            "proxies": {name: _thirds(of, reached) for name, of in values.items()}}  # fmt: skip


def _thirds(values: F64, reached: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    found = []
    for word, rows in zip(_THIRDS, np.array_split(np.argsort(values, kind="stable"), len(_THIRDS)), strict=True):
        count = int(reached[rows].sum())
        low, high = wilson(count, rows.size)
        found.append({
            "third": word, "from": round(float(values[rows].min()), 2), "to": round(float(values[rows].max()), 2),
            "count": count, "of": int(rows.size), "low": round(low, 4), "high": round(high, 4),
        })  # fmt: skip
    return found


def _inside(rgb: U8, box: Box) -> U8:
    x1, y1 = max(0, int(box.x1)), max(0, int(box.y1))
    return rgb[y1 : max(y1 + 1, int(box.y2)), x1 : max(x1 + 1, int(box.x2))]


def _patch(rgb: U8, centre: F32, unit: float) -> U8:
    """(N, 3) pixels round ``centre``, at least one."""
    half = max(1.0, _PATCH * unit)
    (x, y), (height, width) = centre, rgb.shape[:2]
    x, y = float(np.clip(x, half, width - half)), float(np.clip(y, half, height - half))
    return _inside(rgb, Box(x - half, y - half, x + half, y + half)).reshape(-1, 3)
