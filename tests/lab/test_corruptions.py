"""Fifteen corruptions, five severities: same size, same seed same pixels, the harsher the farther."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.frames import Box
from streamguard.lab.augment import Crop, plain
from streamguard.lab.corruptions import COMPRESSION, CORRUPTIONS, SEVERITIES
from tests.lab.conftest import portrait

pytestmark = pytest.mark.lab
NAMES = {corruption.name: corruption for corruption in CORRUPTIONS}
TARGET = Crop(64)


def face():
    rgb, box, _ = portrait(3, side=160)
    return rgb, Box(*map(float, box))


def far(name, severity):
    """Mean distance, in levels, of the corrupted crop from the clean one."""
    rgb, box = face()
    clean = plain(rgb, box, TARGET).astype(float)
    return float(np.abs(plain(*NAMES[name].apply(rgb, box, severity, 1), TARGET) - clean).mean())


@pytest.mark.parametrize("name", list(NAMES))
def test_a_corruption_is_repeatable_and_does_something(name):
    rgb, box = face()
    before = rgb.copy()
    first, second = (NAMES[name].apply(rgb, box, 3, 7) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert first[1] == second[1]
    assert (rgb == before).all()
    assert first[0].dtype == np.uint8
    assert far(name, SEVERITIES) > 0.5


@pytest.mark.parametrize(
    "name", ["jpeg", "h264", "downscale", "blur", "motion blur", "noise", "occlusion", "crop shift"]
)
def test_the_last_step_is_harsher_than_the_first(name):
    assert far(name, 5) > far(name, 1)


def test_a_smaller_picture_keeps_the_face_in_place():
    rgb, box = face()
    small, moved = NAMES["downscale"].apply(rgb, box, 2, 0)
    assert small.shape == (80, 80, 3)
    assert moved.width == pytest.approx(box.width / 2)
    assert moved.x1 / 80 == pytest.approx(box.x1 / 160)


def test_boxes_move_and_grow_by_what_the_step_says():
    rgb, box = face()
    same, wider = NAMES["box scale"].apply(rgb, box, 4, 0)
    assert same is rgb
    assert wider.width == pytest.approx(box.width * 1.2)
    assert wider.centre == pytest.approx(box.centre)
    _, beside = NAMES["crop shift"].apply(rgb, box, 5, 0)
    dx, dy = beside.x1 - box.x1, beside.y1 - box.y1
    assert np.hypot(dx / box.width, dy / box.height) == pytest.approx(0.15)


def test_the_compression_target_speaks_of_what_it_says():
    steps = {kind: [NAMES[kind].steps[severity - 1] for severity in of] for kind, of in COMPRESSION.items()}
    assert steps == {"jpeg": [95, 75, 50], "h264": [18, 23, 28]}
