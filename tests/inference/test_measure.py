"""Measuring for real, here and in a child process."""

import shutil

import pytest

from streamguard.errors import EngineError
from streamguard.inference import measure as measuring
from streamguard.inference.engines import load_engine
from streamguard.inference.measure import main, measure, measure_apart
from streamguard.inference.openvino import usual_order

ENGINE = load_engine("deepfake-steady")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measuring, "ROUNDS", 3)
    monkeypatch.setattr(measuring, "PICTURES", 1)


@pytest.mark.usefixtures("quick")
def test_every_variant_is_measured_and_told_of():
    heard = []
    found = measure(ENGINE, "openvino", heard.append)
    assert set(found) == set(usual_order(ENGINE))
    assert all(value > 0 for value in found.values())
    assert "deepfake-steady: round 3 of 3" in heard


def test_a_refusal_in_the_child_is_named():
    with pytest.raises(EngineError, match="backend 'abacus' is not known"):
        measure_apart(ENGINE, "abacus")


def test_a_child_that_crashes_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "_CHILD", "import os; os.abort()")
    with pytest.raises(EngineError, match=r"measuring 'deepfake-steady' on openvino ended with code -6"):
        measure_apart(ENGINE, "openvino")


def test_the_child_says_why_it_refuses(tmp_path, capsys):
    folder = shutil.copytree(ENGINE.folder, tmp_path / "engine")
    (folder / "model.onnx").write_bytes(b"something else")
    assert main(str(folder), "openvino") == 2
    assert '{"refused": "engine \'deepfake-steady\'' in capsys.readouterr().out
