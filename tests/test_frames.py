"""The vocabulary: geometry, and a sigmoid that never overflows."""

import dataclasses
import math

import numpy as np
import pytest

from streamguard.frames import Box, Picture, Score, State, sigmoid


@pytest.mark.parametrize(("logit", "score"), [(0, 0.5), (2, 0.880797), (-2, 0.119203), (800, 1.0), (-800, 0.0)])
def test_sigmoid(logit, score):
    assert sigmoid(logit) == pytest.approx(score, abs=1e-6)


def test_sigmoid_is_symmetric():
    assert sigmoid(3.3) + sigmoid(-3.3) == pytest.approx(1.0)


def test_box_measures():
    box = Box(10, 20, 40, 60)
    assert (box.width, box.height, box.area, box.centre) == (30, 40, 1200, (25, 40))
    assert Box(5, 5, 1, 9).area == 0


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (Box(0, 0, 10, 10), 1.0),
        (Box(5, 0, 15, 10), 1 / 3),
        (Box(10, 0, 20, 10), 0.0),
        (Box(2, 2, 4, 4), 0.04),
        (Box(50, 50, 60, 60), 0.0),
    ],
)
def test_iou(other, iou):
    box = Box(0, 0, 10, 10)
    assert box.iou(other) == pytest.approx(iou)
    assert other.iou(box) == pytest.approx(iou)


def test_pictures_copy_out_of_decoder_memory():
    planes = [np.zeros(shape, np.uint8) for shape in ((4, 6), (2, 3), (2, 3))]
    picture = Picture(*planes, "bt709", True)
    copied = picture.copy()
    planes[0][:] = 9
    assert (picture.width, picture.height) == (6, 4)
    assert copied.y.max() == 0
    assert (copied.matrix, copied.full_range) == ("bt709", True)


def test_the_vocabulary_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Score(1, 0.0, 1.0).logit = math.inf


def test_states_are_their_words():
    assert [str(state) for state in State] == ["flagged", "clear", "inconclusive"]
