"""The detector's pictures, files and measures, on made pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ultralytics")

import onnx
from onnx import numpy_helper

from streamguard.errors import InputMissing, UsageError
from streamguard.frames import Box
from streamguard.inference import openvino as adapter
from streamguard.inference.engines import load_engine
from streamguard.inference.processor import int8_is_exact
from streamguard.lab import detector as lab_detector
from streamguard.lab import detector_data as dd
from streamguard.lab import detector_measure as dm
from streamguard.lab.dataset import Dataset
from streamguard.lab.detector import DEFAULTS, begin, detector, training_minutes
from streamguard.lab.detector_card import card, check_filled
from streamguard.lab.detector_export import as_input, decode_tail, export, quantise, write_engine
from streamguard.lab.detector_training import Recipe, isolate, overrides, rate_at, size_at
from tests.lab.footage import list_pictures

# torch's ONNX exporter and ultralytics announce deprecations of their own: not ours to fix.
pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]


def made_face(seed: int, side: int = 128, width: int = 40) -> dd.Labelled:
    """An oval with eyes on noise, at a place drawn by seed."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), rng.integers(20, 90, 3), np.uint8)
    picture += rng.integers(0, 30, picture.shape, np.uint8)
    x, y = (int(v) for v in rng.integers(4, side - width - 14, 2))
    centre = (x + width // 2, y + width // 2 + 5)
    cv2.ellipse(picture, centre, (width // 2, width // 2 + 5), 0, 0, 360, (220, 180, 150), -1)
    for dx in (-width // 5, width // 5):
        cv2.circle(picture, (centre[0] + dx, centre[1] - 5), 3, (30, 20, 20), -1)
    return dd.Labelled(picture, (Box(x, y, x + width, y + width + 10),))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 training pictures in groups of two, one of them twice, and 4 of the split ``val``."""
    root = tmp_path_factory.mktemp("data")
    rows, boxes = [], []
    for i in range(44):
        item = made_face(0 if i in (0, 38) else i)
        path = f"openforensics/real/{i}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), item.picture[..., ::-1])
        face = item.boxes[0]
        rows.append(
            [path, "real", "openforensics", "none", f"g{i // 2}", "val" if i >= 40 else "train", "", "", "", ""]
        )
        boxes.append([path, face.x1, face.y1, face.width, face.height, 0.9])
    list_pictures(root, rows, boxes)
    return Dataset(root)


def test_labels_are_shares_of_the_picture_and_clipped() -> None:
    boxes = (Box(20, 10, 60, 50), Box(180, 0, 220, 20), Box(195, 0, 290, 9))
    item = dd.Labelled(np.zeros((100, 200, 3), np.uint8), boxes)
    assert dd.label_lines(item) == "0 0.200000 0.300000 0.200000 0.400000\n0 0.950000 0.100000 0.100000 0.200000\n"


def test_split_keeps_groups_whole_and_never_reads_the_test(data: Dataset) -> None:
    cut = dd.split(data, 9, seed=3)
    assert len(cut.held_out) == 10  # whole groups of two
    assert not {e.group for e in cut.train} & {e.group for e in cut.held_out}
    assert all(e.split == "train" for e in (*cut.train, *cut.held_out))
    assert len(cut.train) + len(cut.held_out) + cut.near_duplicates == 40


def test_split_drops_the_duplicate_of_a_held_out_picture(data: Dataset) -> None:
    for seed in range(40):
        cut = dd.split(data, 9, seed)
        sides = [{e.path.rsplit("/", 1)[1] for e in side} for side in (cut.train, cut.held_out)]
        if len({"0.png", "38.png"} & sides[1]) == 1:
            assert not {"0.png", "38.png"} & sides[0]
            assert cut.near_duplicates >= 1
            return
    raise AssertionError("no seed held out one of the two duplicates")


def test_split_refuses_to_hold_out_everything(data: Dataset) -> None:
    with pytest.raises(UsageError, match="40 pictures can't be held out of 40"):
        dd.split(data, 40, seed=0)


def test_collage_puts_every_box_into_its_tile() -> None:
    items = [made_face(i) for i in range(3)]
    made = dd.collage(items, 320, 180, 64)
    assert made.picture.shape == (180, 320, 3)
    assert len(made.boxes) == 10  # 5 x 2 tiles
    for i, box in enumerate(made.boxes):
        source = items[i % 3].boxes[0]
        assert box.x1 == pytest.approx((i % 5) * 64 + source.x1 / 2)
        assert box.y2 == pytest.approx((i // 5) * 64 + source.y2 / 2)
    assert (made.picture[128:] == 114).all()


def test_face_free_strips_hold_no_face() -> None:
    item = dd.Labelled(made_face(0).picture, (Box(10, 20, 50, 70),))
    free = dd.face_free(item)
    assert free is not None
    assert free.shape == (128, 68, 3)  # from 50 + a quarter of 40 to the right edge
    assert dd.face_free(dd.Labelled(item.picture, (Box(20, 20, 100, 100),))) is None


def test_scatter_covers_no_face_and_keeps_sizes() -> None:
    rng = np.random.default_rng(5)
    base = dd.resized(made_face(1), 320, 320)
    made = dd.scatter(rng, base, [made_face(i) for i in range(2, 20)])
    assert made.boxes[0] == base.boxes[0]
    assert len(made.boxes) > 5
    for i, box in enumerate(made.boxes):
        assert all(box.iou(other) == 0 for other in made.boxes[:i])
        assert i == 0 or dd.SMALLEST * 0.8 <= box.width <= dd.LARGEST * 1.2


def test_close_up_fills_the_picture_with_the_face() -> None:
    for seed in range(10):
        made = dd.close_up(np.random.default_rng(seed), made_face(seed), 320, 180)
        assert made.size[0] <= 320
        assert made.size[1] <= 180
        assert max(b.height for b in made.boxes) >= 0.45 * made.size[1]


def test_write_dataset_writes_pairs_and_is_deterministic(data: Dataset, tmp_path: Path) -> None:
    counts = dd.write_dataset(data, tmp_path / "a", pictures=30, held_out=6, seed=1)
    assert counts["train_pictures"] == 30
    assert counts["held_out_pictures"] == counts["held_out_faces"] == 6
    for part in ("train", "held_out", "small"):
        images = {p.stem for p in (tmp_path / "a" / "images" / part).iterdir()}
        assert images == {p.stem for p in (tmp_path / "a" / "labels" / part).iterdir()}
    values = [
        float(v)
        for p in (tmp_path / "a" / "labels").rglob("*.txt")
        for line in p.read_text().splitlines()
        for v in line.split()
    ]
    assert min(values) >= 0
    assert max(values) <= 1
    assert dd.write_dataset(data, tmp_path / "b", pictures=30, held_out=6, seed=1) == counts
    for p in (tmp_path / "a").rglob("*.*"):
        assert p.read_bytes() == (tmp_path / "b" / p.relative_to(tmp_path / "a")).read_bytes()


def test_rate_falls_and_size_grows() -> None:
    recipe = Recipe(epochs=10, small_share=0.6)
    rates = [rate_at(p / 20, recipe) for p in range(21)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(2e-3)
    assert rates[-1] == pytest.approx(4e-5)
    assert [size_at(e, recipe) for e in (0, 5, 6, 9)] == [224, 224, 320, 320]
    assert overrides(recipe, Path("d.yaml"), Path("run/training"))["pretrained"] is False


def test_average_precision_of_known_cases() -> None:
    faces = [Box(0, 0, 10, 10), Box(20, 20, 40, 40)]
    both = dm.Found(dm.corners(faces), np.array([0.9, 0.8], np.float32))
    perfect = dm.hits(both, faces)
    assert dm.average_precision([perfect]).tolist() == pytest.approx([1.0] * 10)
    half = dm.hits(dm.Found(both.boxes[:1], both.scores[:1]), faces)
    assert dm.average_precision([half])[0] == pytest.approx(51 / 101)  # recall levels 0.00 to 0.50
    twice = dm.hits(dm.Found(both.boxes[[0, 0]], both.scores), faces)
    assert twice.right[:, 0].tolist() == [True, False]
    assert dm.at_confidence([perfect], 0.85)["recall"]["value"] == 0.5


def test_confidence_is_the_lowest_that_keeps_the_precision() -> None:
    faces = [Box(0, 0, 10, 10), Box(20, 20, 40, 40)]
    boxes = dm.corners([*faces, Box(60, 60, 70, 70), Box(80, 80, 90, 90)])
    found = dm.hits(dm.Found(boxes, np.array([0.9, 0.4, 0.3, 0.2], np.float32)), faces)
    assert dm.best_confidence([found], 1.0) == 0.31
    assert dm.best_confidence([found], 0.6) == 0.21
    wrong = dm.hits(dm.Found(boxes[2:3], np.array([0.95], np.float32)), faces)
    assert dm.best_confidence([found, wrong], 0.9) == 0.5


def test_wilson_interval() -> None:
    assert dm.share(8, 10)["interval"] == pytest.approx([0.4902, 0.9433], abs=2e-4)  # Wilson 1927, usual tables
    assert dm.share(0, 0)["value"] is None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained YOLOv8n, fp32 and int8, at 320 px."""
    folder = tmp_path_factory.mktemp("models")
    isolate(folder / "ultralytics")
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    net = YOLO("yolov8n.yaml")
    net.model = type(net.model)("yolov8n.yaml", nc=1, verbose=False)
    for module in net.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # live statistics: activations of a trained net's size
            module.momentum = 0.5
    net.model.train()
    rng = np.random.default_rng(0)
    for seed in range(6):
        x = np.concatenate([as_input(made_face(10 * seed + k).picture, 320) for k in range(4)])
        with torch.no_grad():
            net.model.forward(torch.from_numpy(x + rng.normal(0, 0.05, x.shape).astype(np.float32)))
    net.save(folder / "net.pt")
    export(folder / "net.pt", folder / "model.onnx", 320)
    pictures = []
    for i in range(4):
        pictures.append(folder / f"{i}.png")
        cv2.imwrite(str(pictures[-1]), made_face(i).picture)
    quantise(folder / "model.onnx", folder / "model.int8.onnx", pictures)
    return folder / "model.onnx", folder / "model.int8.onnx"


def test_export_has_dynamic_batch_and_keeps_the_stamp(models: tuple[Path, Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(models[0]))
    x = np.concatenate([as_input(made_face(i).picture, 320) for i in range(3)])
    together = session.run(None, {"images": x})[0]
    assert together.shape == (3, 5, 2100)
    for i in range(3):
        np.testing.assert_allclose(session.run(None, {"images": x[i : i + 1]})[0][0], together[i], rtol=1e-3, atol=1e-3)
    model = onnx.load(models[0])
    assert 17 <= model.opset_import[0].version <= 18
    meta = {entry.key: entry.value for entry in model.metadata_props}
    assert "AGPL-3.0" in meta["license"]
    assert meta["author"] == "Ultralytics"
    assert str(models[0].parent).encode() not in models[0].read_bytes()


def test_int8_is_what_tensorrt_parses(models: tuple[Path, Path]) -> None:
    model = onnx.load(models[1])
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            assert constants[node.input[0]].dtype == np.int8
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    inside = [n for n in convolutions if n.input[1] in made and made[n.input[1]].op_type == "DequantizeLinear"]
    assert len(inside) == len(convolutions) - 1  # all but the DFL's
    for node in inside:
        assert constants[node.input[2]].dtype == np.float32
    tail = set(decode_tail(onnx.load(models[0])))
    in_tail = [made[i] for n in model.graph.node if n.name in tail for i in n.input if i in made]
    assert "DequantizeLinear" not in {n.op_type for n in in_tail}


@pytest.mark.skipif(not int8_is_exact(), reason="this processor has no VNNI: OpenVINO's int8 sums overflow")
def test_openvino_computes_the_int8_file_as_onnx_runtime_does(models: tuple[Path, Path]) -> None:
    """Without fence_concats OpenVINO is up to 50 % off behind each Concat."""
    import onnxruntime
    import openvino

    x = as_input(made_face(1).picture, 320)
    expected = onnxruntime.InferenceSession(str(models[1])).run(None, {"images": x})[0]
    device = openvino.Core().compile_model(str(models[1]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = device(x)[0]
    assert np.abs(found[:, :4] - expected[:, :4]).mean() < 0.5  # px
    assert np.abs(found[:, 4] - expected[:, 4]).max() < 0.01


def filled_metrics() -> dict[str, object]:
    s = {"count": 9, "of": 10, "value": 0.9, "interval": [0.6, 0.98]}
    p = {"map50": 0.9, "map50_interval": [0.8, 0.95], "map50_95": 0.7, "map50_95_interval": [0.6, 0.8]}
    p |= {"pictures": 5, "faces": 6}
    pr = {"precision": s, "recall": s}
    hand = {"iou_0.5": s, "iou_0.3": s, "detections": 12}
    parts = ("plain", "composites")
    counts = ("near_duplicates_dropped", "train_pictures", "train_faces", "train_composites", "held_out_pictures")
    return {
        "version": "1.0.0", "size": 320, "confidence": 0.4, "resampler": "halving", "calibration": 8, "seed": 0,
        "command": "streamguard lab detector", "date": "2026-11-21", "machine": "x86_64 CPU", "runtime": "OpenVINO",
        "training_minutes": 1.5, "remark": "as configured", "versions": {"torch": "2"},
        "dataset": dict.fromkeys((*counts, "held_out_faces", "small_pictures", "small_faces"), 3),
        "recipe": {"epochs": 1, "batch": 2, "learning_rate": 0.1, "small_size": 64, "small_share": 0.5},
        "precision": {k: {"fp32": p, "int8": p} for k in parts},
        "operating": {k: {"fp32": pr, "int8": pr} for k in parts},
        "recall_by_width": {"fp32": {"6-8": s}, "int8": {"6-8": s}},
        "hand_boxes": {"pictures": 9, "fp32": hand, "int8": hand, "yunet": hand},
        "int8_against_fp32": {
            "pairs": 5, "unpaired": 1, "box_px_mean": 0.1, "box_px_p99": 0.2, "score_mean": 0.1, "score_p99": 0.2
        },
    }  # fmt: skip


@pytest.mark.parametrize("empty", [None, "", [], {}, math.nan])
def test_card_refuses_an_empty_field(empty: object) -> None:
    with pytest.raises(UsageError, match=r"metrics\.recipe\.epochs is empty"):
        check_filled({"recipe": {"epochs": empty}})


def test_card_refuses_a_missing_field() -> None:
    metrics = filled_metrics()
    assert "0.900 (0.600-0.980; 9/10)" in card(metrics)
    del metrics["confidence"]
    with pytest.raises(UsageError, match="lacks 'confidence'"):
        card(metrics)


def test_write_engine_is_what_the_runtime_loads(models: tuple[Path, Path], tmp_path: Path) -> None:
    run, engine = tmp_path / "run", tmp_path / "engine"
    run.mkdir()
    with pytest.raises(InputMissing, match=r"no metrics\.json"):
        write_engine(run, engine)
    for model in models:
        (run / model.name).write_bytes(model.read_bytes())
    (run / "metrics.json").write_text(json.dumps(filled_metrics() | {"date": ""}))
    with pytest.raises(UsageError, match="date is empty"):
        write_engine(run, engine)
    assert not engine.exists()
    (run / "metrics.json").write_text(json.dumps(filled_metrics()))
    write_engine(run, engine)
    loaded = load_engine(engine)
    assert loaded.task == "detect"
    assert loaded.manifest["decode"] == {"confidence": 0.4, "iou": 0.5, "top_k": 300}
    assert loaded.model("int8") == models[1].read_bytes()
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (engine / "LICENSE").read_text()
    found = dm.engine_detector(loaded, "fp32")(made_face(0).picture)
    assert found.boxes.shape == (len(found.scores), 4)


def test_a_run_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    begin(tmp_path, DEFAULTS, resume=False)
    with pytest.raises(UsageError, match="holds a run already"):
        begin(tmp_path, DEFAULTS, resume=False)
    with pytest.raises(UsageError, match="other values of seed"):
        begin(tmp_path, Recipe(seed=7), resume=True)
    begin(tmp_path, Recipe(threads=2), resume=True)


def add_references(root: Path) -> None:
    """Hand boxes, as dlib writes them. The teacher's weights can't be made: the test stops there."""
    folder = root / "dlib_faces"
    folder.mkdir(exist_ok=True)
    item = made_face(99)
    cv2.imwrite(str(folder / "one.png"), item.picture)
    box = item.boxes[0]
    body = f"<box top='{box.y1}' left='{box.x1}' width='{box.width}' height='{box.height}'/>"
    for name in ("training.xml", "testing.xml"):
        (folder / name).write_text(f"<dataset><images><image file='one.png'>{body}</image></images></dataset>")


@pytest.mark.slow
def test_a_tiny_run_trains_exports_and_resumes(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMGUARD_DATA", str(data.root))
    for module in (lab_detector, adapter):  # what int8 finds does not matter here
        monkeypatch.setattr(module, "int8_is_exact", lambda: True)
    add_references(data.root)
    run = tmp_path / "run"
    options = {"out": run, "epochs": 1, "pictures": 24, "size": 64, "held_out": 4, "threads": 1}
    with pytest.raises(InputMissing, match="yunet"):  # everything before the comparison with the teacher has run
        detector(**options)  # type: ignore[arg-type]
    assert onnx.load(run / "model.onnx").graph.output[0].type.tensor_type.shape.dim[2].dim_value == 84
    weights = (run / "training" / "weights" / "last.pt").stat().st_mtime_ns
    with pytest.raises(InputMissing, match="yunet"):
        detector(**options, resume=True)  # type: ignore[arg-type]
    assert (run / "training" / "weights" / "last.pt").stat().st_mtime_ns == weights
    assert training_minutes(run) >= 0
    assert len(json.loads((run / "training" / "seconds.json").read_text())) == 1


def test_a_processor_that_cannot_measure_int8_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_detector, "int8_is_exact", lambda: False)
    with pytest.raises(UsageError, match="has no VNNI, so the detector's int8 file can't be measured"):
        detector(out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sizes_that_the_net_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        detector(out=tmp_path / "run", size=100)
