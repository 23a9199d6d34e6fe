"""Contact sheets: real, fake and mask beside each other, as PNG, for the eye that a table can't replace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from streamguard.frames import U8, Box
from streamguard.lab.forge.base import Pair

CELL: Final = 160  # pixels
ACROSS: Final = 2  # pairs in a row
_HEAD: Final = 18
_REACH: Final = 0.25  # of the face's longer side is shown round it


def strip(pair: Pair, box: Box) -> U8:
    """(CELL, 3 CELL, 3) uint8 RGB: the surroundings of the face in real, fake and mask."""
    height, width = pair.mask.shape
    reach = _REACH * max(box.width, box.height)
    x1, y1 = (max(0, int(v - reach)) for v in (box.x1, box.y1))
    x2, y2 = min(width, int(box.x2 + reach) + 1), min(height, int(box.y2 + reach) + 1)
    mask = np.repeat(pair.mask[..., None], 3, axis=-1)
    return np.hstack([_fitted(picture[y1:y2, x1:x2]) for picture in (pair.real, pair.fake, mask)])


def _fitted(rgb: U8) -> U8:
    """On a square of CELL pixels, centred, its form kept."""
    height, width = rgb.shape[:2]
    factor = CELL / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    cell = np.zeros((CELL, CELL, 3), np.uint8)
    y, x = (CELL - size[1]) // 2, (CELL - size[0]) // 2
    cell[y : y + size[1], x : x + size[0]] = small
    return cell


def write_sheet(strips: Sequence[U8], title: str, path: Path) -> None:
    """All strips in rows of :data:`ACROSS`, under a line of text."""
    rows = [np.hstack(_filled(strips[i : i + ACROSS])) for i in range(0, len(strips), ACROSS)]
    head = np.full((_HEAD, ACROSS * 3 * CELL, 3), 32, np.uint8)
    for column in range(ACROSS):
        for place, word in enumerate((f"{title}: real", "fake", "mask")):
            at = ((3 * column + place) * CELL + 4, _HEAD - 5)
            cv2.putText(head, word, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    sheet = np.vstack([head, *rows])
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _filled(strips: Sequence[U8]) -> list[U8]:
    lacking = ACROSS - len(strips)
    return [*strips, *[np.zeros((CELL, 3 * CELL, 3), np.uint8)] * lacking]
