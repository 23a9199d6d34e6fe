"""Raw detector output to faces."""

import numpy as np
import pytest

from streamguard.errors import EngineForeign
from streamguard.frames import Box
from streamguard.pixels import Letterbox
from streamguard.vision.detector import FaceDecoder

WHOLE = Letterbox(scale=1.0, left=0, top=0)


def raw(*candidates, anchors=2100):
    """(5, anchors) float32 with the candidates (cx, cy, w, h, score) spread over it, the rest silent."""
    output = np.zeros((5, anchors), np.float32)
    output[2:4] = 8
    for index, candidate in enumerate(candidates):
        output[:, index * 7 % anchors] = candidate
    return output


def test_one_face_among_silence():
    (face,) = FaceDecoder().decode(raw((100, 80, 40, 60, 0.75)), WHOLE, 320, 320)
    assert face.box == Box(80, 50, 120, 110)
    assert face.confidence == pytest.approx(0.75)


def test_nothing_over_the_confidence():
    decoder = FaceDecoder(confidence=0.5)
    assert decoder.decode(raw((100, 80, 40, 60, 0.5)), WHOLE, 320, 320) == []
    assert decoder.decode(raw(), WHOLE, 320, 320) == []


def test_overlapping_candidates_are_one_face_and_the_best_of_them():
    found = FaceDecoder().decode(
        raw((100, 80, 40, 60, 0.6), (102, 81, 40, 60, 0.9), (98, 79, 42, 58, 0.7), (200, 80, 40, 60, 0.8)),
        WHOLE,
        320,
        320,
    )
    assert [face.confidence for face in found] == pytest.approx([0.9, 0.8])
    assert found[0].box == Box(82, 51, 122, 111)


def test_the_overlap_that_makes_two_faces_one_is_set():
    pair = raw((100, 80, 40, 40, 0.9), (110, 80, 40, 40, 0.8))  # IoU 0.6
    assert len(FaceDecoder(iou=0.5).decode(pair, WHOLE, 320, 320)) == 1
    assert len(FaceDecoder(iou=0.7).decode(pair, WHOLE, 320, 320)) == 2


def test_letterboxed_input_to_picture_pixels():
    """1280x720 in 320x320: a quarter of the size, 70 rows of padding above and below."""
    (face,) = FaceDecoder().decode(raw((160, 160, 40, 60, 0.9)), Letterbox(0.25, 0, 70), 1280, 720)
    assert face.box == Box(560, 240, 720, 480)


def test_boxes_are_clipped_to_the_picture():
    (face,) = FaceDecoder().decode(raw((5, 72, 40, 20, 0.9)), Letterbox(0.25, 0, 70), 1280, 720)
    assert face.box == Box(0, 0, 100, 48)


def test_a_box_in_the_padding_is_no_face():
    assert FaceDecoder().decode(raw((160, 30, 40, 40, 0.9)), Letterbox(0.25, 0, 70), 1280, 720) == []


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_face(broken):
    candidates = raw((100, 80, 40, 60, 0.75), (broken, 80, 40, 60, 0.9), (200, 80, broken, 60, 0.9))
    candidates[4, 999] = np.nan
    assert [face.box for face in FaceDecoder().decode(candidates, WHOLE, 320, 320)] == [Box(80, 50, 120, 110)]


def test_nothing_but_what_is_not_finite():
    assert FaceDecoder().decode(raw((np.nan, 80, 40, 60, 0.9)), WHOLE, 320, 320) == []


def test_a_picture_that_fires_everywhere_stays_bounded():
    """8,400 distinct boxes over the threshold: the 300 best reach the suppression, no more."""
    scores = np.linspace(0.3, 0.99, 8400, dtype=np.float32)
    grid = np.arange(8400)
    output = np.stack((grid % 120 * 8 + 4, grid // 120 * 8 + 4, grid * 0 + 6, grid * 0 + 6, scores)).astype(np.float32)
    output = output[:, np.random.default_rng(1).permutation(8400)]
    found = FaceDecoder(top_k=300).decode(output, WHOLE, 960, 560)
    assert len(found) == 300
    assert min(face.confidence for face in found) == pytest.approx(scores[-300])


def test_faces_come_most_confident_first():
    found = FaceDecoder().decode(raw(*((20 + 40 * i, 50, 30, 30, 0.3 + 0.1 * i) for i in range(6))), WHOLE, 320, 320)
    confidences = [face.confidence for face in found]
    assert len(found) == 6
    assert confidences == sorted(confidences, reverse=True)


@pytest.mark.parametrize("shape", [(6, 2100), (2100, 5), (1, 5, 2100), (5,)])
def test_another_layout_is_refused(shape):
    with pytest.raises(EngineForeign, match="one class"):
        FaceDecoder().decode(np.zeros(shape, np.float32), WHOLE, 320, 320)


def test_settings_come_from_the_manifest():
    decoder = FaceDecoder.of({"name": "x", "decode": {"confidence": 0.3, "iou": 0.45, "top_k": 100}})
    assert (decoder.confidence, decoder.iou, decoder.top_k) == (0.3, 0.45, 100)


@pytest.mark.parametrize(
    "decode",
    [
        None,
        {},
        {"confidence": 0.3, "iou": 0.5},
        {"confidence": "high", "iou": 0.5, "top_k": 300},
        {"confidence": 0.3, "iou": 1.5, "top_k": 300},
        {"confidence": 0.0, "iou": 0.5, "top_k": 300},
        {"confidence": float("nan"), "iou": 0.5, "top_k": 300},
        {"confidence": 0.3, "iou": 0.5, "top_k": 0},
    ],
)
def test_a_manifest_that_does_not_say_how_to_decode(decode):
    with pytest.raises(EngineForeign, match="Engine 'odd'"):
        FaceDecoder.of({"name": "odd", "decode": decode})
