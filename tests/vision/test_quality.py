"""Whether a face can be judged."""

import cv2
import numpy as np
import pytest

from streamguard.frames import Box, Face, Picture
from streamguard.vision.quality import QualityGate, QualitySettings, sharpness_of

WIDTH, HEIGHT = 640, 480


def drawn(blur=0.0, contrast=1.0):
    """A picture of drawn faces, 120x150 at (200, 150): an oval, eyes, mouth, and a texture like skin's."""
    rng = np.random.default_rng(3)
    luma = np.full((HEIGHT, WIDTH), 90, np.float32)
    cv2.ellipse(luma, (260, 225), (58, 74), 0, 0, 360, 170, -1)
    for x in (235, 285):
        cv2.circle(luma, (x, 205), 9, 60, -1)
        cv2.circle(luma, (x, 205), 4, 20, -1)
    cv2.ellipse(luma, (260, 262), (22, 7), 0, 0, 360, 80, -1)
    luma += cv2.GaussianBlur(rng.normal(0, 12, luma.shape).astype(np.float32), (0, 0), 1.0)
    if blur:
        luma = cv2.GaussianBlur(luma, (0, 0), blur)
    luma = np.clip(110 + (luma - 110) * contrast, 0, 255).astype(np.uint8)
    grey = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    return Picture(luma, grey, grey)


FACE = Box(200, 150, 320, 300)


@pytest.fixture
def gate():
    return QualityGate()


def test_a_good_face(gate):
    quality = gate.judge(Face(FACE, 0.9), drawn())
    assert quality.reason is None
    assert quality.size == 120
    assert quality.sharpness > gate.settings.sharpness


@pytest.mark.parametrize(("width", "reason"), [(59.0, "too small"), (60.0, None)])
def test_the_smallest_face(gate, width, reason):
    box = Box(230, 180, 230 + width, 180 + 1.3 * width)
    assert gate.judge(Face(box, 0.9), drawn()).reason == reason


def test_low_confidence(gate):
    assert gate.judge(Face(FACE, 0.49), drawn()).reason == "low confidence"
    assert gate.judge(Face(FACE, 0.5), drawn()).reason is None


def test_really_blurred_and_only_that(gate):
    assert gate.judge(Face(FACE, 0.9), drawn(blur=1.5)).reason is None
    assert gate.judge(Face(FACE, 0.9), drawn(blur=14)).reason == "blurred"


def test_sharpness_falls_with_blur():
    sharpness = [sharpness_of(drawn(blur), FACE) for blur in (0, 2, 4, 8, 14)]
    assert sharpness == sorted(sharpness, reverse=True)


def test_sharpness_does_not_depend_on_contrast():
    assert sharpness_of(drawn(contrast=0.5), FACE) == pytest.approx(sharpness_of(drawn(), FACE), rel=0.2)


def test_sharpness_does_not_depend_on_the_size_of_the_face():
    picture = drawn()
    double = Picture(
        cv2.resize(picture.y, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC), picture.u, picture.v
    )
    twice = Box(*(2 * side for side in FACE))
    assert sharpness_of(double, twice) == pytest.approx(sharpness_of(picture, FACE), rel=0.25)


def test_a_flat_patch_has_no_sharpness():
    flat = Picture(np.full((HEIGHT, WIDTH), 128, np.uint8), *(np.zeros((240, 320), np.uint8),) * 2)
    assert sharpness_of(flat, FACE) == 0
    assert QualityGate().judge(Face(FACE, 0.9), flat).reason == "blurred"


def test_a_box_outside_the_picture_has_no_sharpness():
    assert sharpness_of(drawn(), Box(700, 500, 800, 600)) == 0
    assert sharpness_of(drawn(), Box(-100, -100, -10, -10)) == 0


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(0, 150, 65, 300), "cut off"),  # left half missing
        (Box(0, 150, 115, 300), None),  # whole, at the border
        (Box(640 - 70, 150, 640, 300), "cut off"),
        (Box(200, 0, 320, 100), "cut off"),  # forehead and eyes missing
        (Box(200, 0, 320, 150), None),
        (Box(200, 480 - 90, 320, 480), "cut off"),  # mouth and chin missing
        (Box(200, 150, 265, 300), None),  # narrow, but not at the border: a face in profile
        (Box(200, 150, 320, 250), None),  # flat, but not at the border: a bowed head
    ],
)
def test_cut_off_by_the_border(gate, box, reason):
    assert gate.judge(Face(box, 0.9), drawn()).reason in (reason, "blurred")
    assert (gate.judge(Face(box, 0.9), drawn()).reason == "cut off") is (reason == "cut off")


def test_the_first_reason_is_the_one_that_is_given():
    gate = QualityGate(QualitySettings(size=100, confidence=0.9))
    assert gate.judge(Face(Box(0, 150, 65, 300), 0.1), drawn(10)).reason == "too small"
    assert gate.judge(Face(Box(0, 100, 110, 400), 0.1), drawn(10)).reason == "cut off"
    assert gate.judge(Face(FACE, 0.1), drawn(10)).reason == "low confidence"


def test_decoder_planes_are_read_and_not_written(gate):
    """Planes are views with a stride of their own, and read-only."""
    wide = np.zeros((HEIGHT, WIDTH + 64), np.uint8)
    picture = drawn()
    wide[:, :WIDTH] = picture.y
    view = wide[:, :WIDTH]
    view.flags.writeable = False
    assert gate.judge(Face(FACE, 0.9), Picture(view, picture.u, picture.v)) == gate.judge(Face(FACE, 0.9), picture)


def test_an_empty_box_is_too_small_whatever_is_set():
    gate = QualityGate(QualitySettings(size=0))
    assert gate.judge(Face(Box(0, 150, 0, 300), 0.9), drawn()).reason == "too small"


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="size is -1"):
        QualitySettings(size=-1)
    with pytest.raises(ValueError, match="sharpness is nan"):
        QualitySettings(sharpness=float("nan"))
