"""Simulated minutes: of one person each, moving, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.errors import UsageError
from streamguard.frames import Box
from streamguard.lab.augment import Crop
from streamguard.lab.data import Sample
from streamguard.lab.minutes import RATE, SOURCE, _whole, minutes

pytestmark = pytest.mark.lab


def test_a_minute_is_of_one_person_and_the_same_each_time(made_store):
    first, second = (list(minutes(made_store, Crop(32), 2, length=4.0)) for _ in range(2))
    assert len({minute.group for minute in first}) == 2
    for one, other in zip(first, second, strict=True):
        assert one.pictures.shape == (20, 32, 32, 3)
        assert one.pts[-1] == pytest.approx(19 / RATE)
        assert (one.pictures == other.pictures).all()


def test_the_camera_moves_but_the_face_stays_in_the_box(made_store):
    minute = next(minutes(made_store, Crop(32), 1, length=6.0))
    shown = minute.pictures.astype(float)
    steps = np.abs(np.diff(shown, axis=0)).mean((1, 2, 3))
    assert (steps > 0).all()
    assert np.abs(shown - shown.mean(0)).mean() < shown.std() / 2  # one and the same face throughout


def test_nobody_is_filmed_twice(made_store):
    people = len(set(made_store.rows(SOURCE)["group"][made_store.find(SOURCE, "calibration", 0)]))
    with pytest.raises(UsageError, match=f"{people + 1} simulated minutes need as many people"):
        next(minutes(made_store, Crop(32), people + 1))


def still(width=200, height=200, box=(20.0, 10.0, 180.0, 190.0), black=0):
    rgb = np.full((height, width, 3), 90, np.uint8)
    rgb[:, width - black :] = 0
    return Sample(rgb, Box(*box), np.zeros((5, 2), np.float32), 0)


@pytest.mark.parametrize(
    ("sample", "whole"),
    [
        (still(), True),
        (still(box=(10.0, 8.0, 180.0, 188.0)), True),
        (still(box=(0.0, 10.0, 160.0, 190.0)), False),  # 10 of 180 pixels lie left of the still
        (still(height=185), False),
        (still(black=15), True),
        (still(black=40), False),
    ],
)
def test_only_stills_with_the_whole_face_are_filmed(sample, whole):
    assert _whole(sample) is whole
