"""Engines: what ships is sound; what is damaged or foreign is refused by name."""

import json
import shutil

import pytest

from streamguard.errors import EngineDamaged, EngineForeign, EngineMissing
from streamguard.inference.engines import engine_folders, load_engine

FACE = "face-yolov8n"


@pytest.fixture
def copied(tmp_path):
    """A folder with a copy of the detector, to break."""
    folder = tmp_path / FACE
    shutil.copytree(load_engine(FACE).folder, folder)
    return folder


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_these_engines_ship():
    assert {folder.name for folder in engine_folders()} == {FACE, "deepfake-steady", "deepfake-nas"}


@pytest.mark.parametrize("name", [folder.name for folder in engine_folders()])
def test_what_ships_is_whole(name):
    engine = load_engine(name)
    assert engine.name == name
    for variant in engine.variants:
        assert len(engine.model(variant)) > 300_000
    for document in ("CARD.md", "LICENSE"):
        assert (engine.folder / document).read_text().strip()
    assert engine.manifest["license"]


def test_derived_precisions_come_from_the_reference_file(copied):
    engine = load_engine(copied)
    assert engine.model("bf16") == engine.model("fp32")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(EngineMissing, match=r"'nope' is neither shipped \(.*face-yolov8n.*\) nor a folder"):
        load_engine("nope")


def test_a_flipped_bit_is_found(copied):
    path = copied / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(EngineDamaged, match=r"model\.onnx' has SHA-256 .* the manifest states"):
        load_engine(copied).model("fp32")


def test_an_absent_file_is_named(copied):
    (copied / "model.onnx").unlink()
    with pytest.raises(EngineMissing, match=r"model\.onnx' is absent"):
        load_engine(copied).model("fp32")


def test_a_manifest_that_is_no_json_is_damaged(copied):
    (copied / "manifest.json").write_text("{")
    with pytest.raises(EngineDamaged, match=r"manifest\.json' can't be read"):
        load_engine(copied)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m["preprocessing"].update(kind="warp"), "preprocessing 'warp'"),
        (lambda m: m["preprocessing"].update(resampler="lanczos"), "preprocessing resampler 'lanczos'"),
        (lambda m: m["preprocessing"].update(align="eyes"), "preprocessing key 'align'"),
        (lambda m: m["preprocessing"].update(pad="grey"), "preprocessing pad 'grey'"),
        (lambda m: m["input"].update(channels="bgr"), "input channels 'bgr'"),
        (lambda m: m["input"].update(layout="nhwc"), "input layout 'nhwc'"),
        (lambda m: m["input"].update(std=[0, 1, 1]), r"std \(0\.0, 1\.0, 1\.0\)"),
        (lambda m: m["output"].update(kind="yolov5"), "output 'yolov5'"),
        (lambda m: m["variants"].pop("fp32"), "no fp32 variant"),
        (lambda m: m.pop("input"), "lacks or misstates 'input'"),
        (lambda m: m["input"].update(scale="lots"), "lacks or misstates .*lots"),
    ],
)
def test_what_the_code_does_not_know_refuses_to_start(copied, change, named):
    edit(copied, change)
    with pytest.raises(EngineForeign, match=named):
        load_engine(copied)
