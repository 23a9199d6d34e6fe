"""Detector output to faces: one class, YOLOv8 layout, non-maximum suppression on the host.

The host is the right place: suppression costs under one per cent of the network, builds nowhere in some
runtimes, and gives the graph shapes that depend on the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from streamguard.errors import EngineForeign
from streamguard.frames import F32, Box, Face
from streamguard.pixels import Letterbox

_ROWS = 5


class FaceDecoder:
    """Turn the raw output of one picture into faces in picture pixels.

    Args:
        confidence: lowest score, 0..1, that becomes a face. Below what opens a track, so that the tracker can
            hold a face through a weak moment.
        iou: overlap, 0..1, above which the weaker of two boxes is the same face.
        top_k: candidates that reach the suppression. It is quadratic: without the cap, a picture made to fire
            everywhere would stop the stream.
    """

    def __init__(self, confidence: float = 0.25, iou: float = 0.5, top_k: int = 300) -> None:
        self.confidence = confidence
        self.iou = iou
        self.top_k = top_k

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> FaceDecoder:
        """The decoder that an engine's manifest asks for: ``"decode": {"confidence", "iou", "top_k"}``.

        Raises:
            EngineForeign: a key is missing, or a value is out of its range.
        """
        name, decode = manifest.get("name", "?"), manifest.get("decode")
        try:
            confidence, iou, top_k = float(decode["confidence"]), float(decode["iou"]), int(decode["top_k"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineForeign(
                f"Engine '{name}' has \"decode\": {decode!r}. Expected the numbers confidence, iou and top_k."
            ) from error
        if not (0 < confidence < 1 and 0 < iou < 1 and top_k > 0):
            raise EngineForeign(
                f"Engine '{name}' has \"decode\": {decode!r}. Expected confidence and iou in 0..1, top_k from 1."
            )
        return cls(confidence, iou, top_k)

    def decode(self, raw: F32, letterbox: Letterbox, width: int, height: int) -> list[Face]:
        """The faces of one picture, most confident first.

        Args:
            raw: (5, A) float32, rows centre x, centre y, width, height (input pixels) and score (0..1).
            letterbox: how the picture lies in the input.
            width: of the picture, pixels.
            height: of the picture, pixels.

        Returns:
            Faces clipped to the picture; boxes that lie wholly in the padding, and boxes that are not
            finite, are no faces.

        Raises:
            EngineForeign: ``raw`` does not have five rows.
        """
        if raw.ndim != 2 or raw.shape[0] != _ROWS:
            raise EngineForeign(f"A detector gave an output of shape {raw.shape}. Expected (5, candidates), one class.")
        scores = raw[4]
        kept = np.flatnonzero(scores > self.confidence)  # one pass over a contiguous row; False for NaN
        if kept.size == 0:
            return []
        if kept.size > self.top_k:
            kept = kept[np.argpartition(scores[kept], -self.top_k)[-self.top_k :]]
        candidates = raw[:4, kept]
        if not np.isfinite(candidates).all():
            finite = np.isfinite(candidates).all(axis=0)
            candidates, kept = candidates[:, finite], kept[finite]
        return self._faces(candidates, scores[kept].tolist(), letterbox, width, height)

    def _faces(self, candidates: F32, scores: list[float], letterbox: Letterbox, width: int, height: int) -> list[Face]:
        boxes = np.empty((len(scores), 4), np.float32)  # left, top, width, height
        boxes[:, :2] = (candidates[:2] - candidates[2:] / 2).T
        boxes[:, 2:] = candidates[2:].T
        # Lists, since OpenCV converts an array element by element, four times slower.
        best = cv2.dnn.NMSBoxes(boxes.tolist(), scores, self.confidence, self.iou)
        if len(best) == 0:
            return []
        corners = boxes[best]
        corners[:, 2:] += corners[:, :2]
        faces = []
        for index, (x1, y1, x2, y2) in zip(best, letterbox.to_picture(corners).tolist(), strict=True):
            box = Box(max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
            if box.width >= 1 and box.height >= 1:
                faces.append(Face(box, scores[index]))
        return faces
