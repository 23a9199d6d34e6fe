"""engines list and verify."""

from __future__ import annotations

import json

from streamguard.inference.engines import load_engine


def test_list(streamguard):
    result = streamguard("engines", "list")
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["name", "version", "task", "input", "variants", "sha256", "licence"]
    assert {row.split()[0] for row in rows} >= {"face-yolov8n", "deepfake-steady", "deepfake-nas"}
    assert load_engine("face-yolov8n").sha256[:12] in result.stdout


def test_verify(streamguard):
    result = streamguard("engines", "verify")
    assert result.exit_code == 0
    engine = load_engine("face-yolov8n")
    for variant in engine.variants.values():
        assert f"ok  face-yolov8n {variant.name} {variant.sha256}\n" in result.stdout


def test_verify_names_the_damaged_and_goes_on(streamguard, damaged_engine):
    result = streamguard("engines", "verify", damaged_engine, "nope", "face-yolov8n")
    assert result.exit_code == 2
    assert f"error: engine 'deepfake-steady': '{damaged_engine}/model.onnx' has SHA-256" in result.stderr
    assert "error: engine 'nope' is neither shipped" in result.stderr
    assert "ok  face-yolov8n fp32" in result.stdout


def test_verify_names_foreign_preprocessing(streamguard, damaged_engine):
    path = damaged_engine / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["preprocessing"]["resampler"] = "lanczos"
    path.write_text(json.dumps(manifest))
    result = streamguard("engines", "verify", damaged_engine)
    assert result.exit_code == 2
    assert "preprocessing resampler 'lanczos'" in result.stderr


def test_build_measures_and_keeps_a_choice(streamguard, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = streamguard("engines", "build", "deepfake-steady", "--json")
    assert result.exit_code == 0
    (engine,) = json.loads(result.stdout)["engines"]
    assert engine["name"] == "deepfake-steady"
    assert engine["variant"] in ("fp32", "int8")  # as the processor has it
    assert engine["milliseconds"]["fp32"] > 0
    kept = tmp_path / ".cache" / "streamguard" / "choices" / "deepfake-steady.openvino.json"
    assert engine["kept"] == str(kept)
    assert json.loads(kept.read_text())["variant"] == engine["variant"]


def test_build_names_a_backend_that_can_not_be_used(streamguard):
    result = streamguard("engines", "build", "deepfake-steady", "--backend", "abacus")
    assert result.exit_code == 2
    assert "error: backend 'abacus' is not known" in result.stderr
