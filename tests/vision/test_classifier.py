"""What a classifier looks at is what its manifest says."""

import pytest

from streamguard.errors import EngineForeign
from streamguard.frames import Box
from streamguard.inference.engines import load_engine
from streamguard.ingest.demo import photograph
from streamguard.pixels import crop, picture_of_rgb
from streamguard.vision.classifier import FaceInput

FACE = Box(170, 60, 280, 200)


def test_the_crop_is_the_one_preprocessing():
    engine = load_engine("deepfake-steady")
    face = FaceInput.of(engine)
    picture = picture_of_rgb(photograph())
    prepared = face.prepare(picture, FACE)
    assert prepared.shape == (engine.input.height, engine.input.width, 3)
    margin = engine.manifest["preprocessing"]["margin"]
    assert (prepared == crop(picture, FACE, engine.input.width, margin)).all()


def test_a_detector_is_no_classifier():
    with pytest.raises(EngineForeign, match=r"'face-yolov8n' .* is no classifier of square faces"):
        FaceInput.of(load_engine("face-yolov8n"))
