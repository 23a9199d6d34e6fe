"""Whether a face can be judged at all. One that can't is not scored; it is never called real.

The limits are measured. On 437 whole faces the width of a box is 2.2 times the distance of the eyes (2.0 to
3.0 for 5 to 95 %), and its height 1.01 to 1.64 times its width (0.5 to 99.5 %). On 667 faces of 60 pixels or
more in stills, :func:`sharpness_of` was above 1.1 for 99.8 %, on 162 in compressed video above 2.0 for all; with a
Gaussian blur of 6 % of the face's width, which leaves no feature standing, its median was 0.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from streamguard.frames import Box, Face, Picture, Quality
from streamguard.pixels import shrink

TOO_SMALL: Final = "too small"
CUT_OFF: Final = "cut off"
LOW_CONFIDENCE: Final = "low confidence"
BLURRED: Final = "blurred"

_SIDE: Final = 48
_NOISE: Final = 25.0  # variance of a luma noise of 5 steps: a flat patch has no sharpness to speak of


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What a face must have to be judged.

    ``size``: shorter side of its box, pixels; 60 is 24 to 27 pixels between the eyes, the least that manipulation
    traces survive. ``confidence``: of the detector, 0..1. ``sharpness``: of :func:`sharpness_of`; only a face that is
    blurred beyond its features is refused. ``tallest``/``flattest``: height by width of a box at the picture's
    border beyond which a part of the face is missing. ``touch``: how close to the border that is, pixels.
    """

    size: float = 60.0
    confidence: float = 0.5
    sharpness: float = 0.4
    tallest: float = 1.65
    flattest: float = 1.0
    touch: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a finite number from 0")


class QualityGate:
    """Judge whether a face can be judged."""

    def __init__(self, settings: QualitySettings | None = None) -> None:
        self.settings = settings or QualitySettings()

    def judge(self, face: Face, picture: Picture) -> Quality:
        """Size (pixels), sharpness and, if the face can't be judged, the first reason why.

        The reasons, in the order they are tried: ``too small``, ``cut off``, ``low confidence``, ``blurred``.
        """
        size, sharp = min(face.box.width, face.box.height), sharpness_of(picture, face.box)
        return Quality(size, sharp, self._reason(face, picture, size, sharp))

    def _reason(self, face: Face, picture: Picture, size: float, sharp: float) -> str | None:
        limits = self.settings
        if size < limits.size or size <= 0:
            return TOO_SMALL
        if self._cut_off(face.box, picture.width, picture.height):
            return CUT_OFF
        if face.confidence < limits.confidence:
            return LOW_CONFIDENCE
        if sharp < limits.sharpness:
            return BLURRED
        return None

    def _cut_off(self, box: Box, width: int, height: int) -> bool:
        """A detector's box ends at the border, so what is missing shows in its shape alone."""
        limits = self.settings
        beside = box.x1 <= limits.touch or box.x2 >= width - limits.touch
        above = box.y1 <= limits.touch or box.y2 >= height - limits.touch
        shape = box.height / box.width
        return (beside and shape > limits.tallest) or (above and shape < limits.flattest)


def sharpness_of(picture: Picture, box: Box) -> float:
    """Variance of the Laplacian of the luma inside ``box`` over the luma's own, at 48 x 48 pixels.

    The common measure of focus (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000), made
    independent of the size of the face by the resampling and of contrast and light by the division. 0 for a
    box outside the picture.
    """
    x1, y1 = max(0, round(box.x1)), max(0, round(box.y1))
    inside = picture.y[y1 : max(0, round(box.y2)), x1 : max(0, round(box.x2))]
    if inside.size == 0:
        return 0.0
    small = shrink(inside, _SIDE, _SIDE).astype(np.float32)
    edges = cv2.Laplacian(small, cv2.CV_32F, ksize=3)
    return float(edges.var() / (small.var() + _NOISE))
