"""Contact sheets: PNG, a fixed layout, whatever the pictures' size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamguard.frames import Box
from streamguard.lab.forge.base import Pair
from streamguard.lab.forge.sheet import ACROSS, CELL, strip, write_sheet

pytestmark = pytest.mark.lab


def pair(height: int, width: int) -> Pair:
    real = np.full((height, width, 3), (200, 40, 40), np.uint8)
    return Pair(real, 255 - real, np.full((height, width), 255, np.uint8))


def test_a_strip_shows_real_fake_and_mask():
    row = strip(pair(90, 70), Box(20, 20, 50, 60))
    assert row.shape == (CELL, 3 * CELL, 3)
    middle = CELL // 2
    assert row[middle, middle].tolist() == [200, 40, 40]
    assert row[middle, CELL + middle].tolist() == [55, 215, 215]
    assert row[middle, 2 * CELL + middle].tolist() == [255, 255, 255]
    assert row[middle, 2].tolist() == [0, 0, 0]  # higher than wide: black at the sides


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sheet_is_a_png_of_whole_rows(tmp_path, count):
    strips = [strip(pair(50, 50), Box(0, 0, 50, 50))] * count
    write_sheet(strips, "warp", tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    rows = -(-count // ACROSS)
    assert sheet.shape[1] == ACROSS * 3 * CELL
    assert (sheet.shape[0] - rows * CELL) in range(10, 30)
    assert (sheet[-CELL // 2, CELL // 2] == (200, 40, 40)).all()
    if count % ACROSS:
        assert not sheet[-CELL:, 3 * CELL :].any()
