"""Both adapters behind the port: the same answers, results for errors, no overbooking."""

import hashlib
import json
import shutil
from queue import SimpleQueue

import cv2
import numpy as np
import onnx
import pytest

from streamguard.errors import BackendError, EngineError
from streamguard.inference import openvino
from streamguard.inference.backend import Completion, create_backend, run
from streamguard.inference.choices import ChoiceCache
from streamguard.inference.engines import load_engine
from streamguard.inference.openvino import OpenVinoBackend, usual_order
from streamguard.inference.processor import int8_is_exact
from streamguard.pixels import Letterbox
from streamguard.vision.detector import FaceDecoder
from tests.media import astronaut_letterboxed

BACKENDS = ("openvino", "onnxruntime")


@pytest.fixture(params=BACKENDS)
def backend_name(request):
    return request.param


def pictures(engine, count=4):
    """Noise and a photograph, (count, H, W, 3) uint8."""
    noise = np.random.default_rng(3).integers(0, 256, (count, engine.input.height, engine.input.width, 3), np.uint8)
    noise[0] = astronaut_letterboxed(engine.input.width, engine.input.height)
    return noise


def outputs(name, engine, variant="fp32", count=4):
    return answers(name, engine, variant, pictures(engine, count))


def answers(name, engine, variant, shown):
    inbox = SimpleQueue()
    backend = create_backend(name, engine, variant, inbox, slots=1)
    try:
        return run(backend, inbox, shown)
    finally:
        backend.close()


def tiled_faces(count, side):
    """The astronaut so many times side by side, (1, side, side, 3) uint8, on grey."""
    width = side // count
    face = cv2.resize(astronaut_letterboxed(side, side), (width, width), interpolation=cv2.INTER_AREA)
    shown = np.full((1, side, side, 3), 114, np.uint8)
    shown[0, :width, : width * count] = np.tile(face, (1, count, 1))
    return shown


def test_the_detectors_agree_within_a_pixel_and_a_thousandth():
    engine = load_engine("face-yolov8n")
    ov, ort = (outputs(name, engine) for name in BACKENDS)
    assert ov.shape == ort.shape == (4, 5, 2100)
    assert np.abs(ov[:, 4] - ort[:, 4]).max() < 1e-3
    decoder = FaceDecoder.of(engine.manifest)
    for a, b in zip(ov, ort, strict=True):
        ours, theirs = (decoder.decode(raw, Letterbox(1.0, 0, 0), 320, 320) for raw in (a, b))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert np.abs(np.subtract(one.box, other.box)).max() < 1.0
    found = decoder.decode(ov[0], Letterbox(1.0, 0, 0), 320, 320)
    assert [face.confidence >= 0.5 for face in found].count(True) == 1, "the astronaut has one face"


def test_the_classifiers_agree_within_a_thousandth():
    engine = load_engine("deepfake-steady")
    ov, ort = (outputs(name, engine) for name in BACKENDS)
    assert ov.shape == ort.shape == (4, 1)
    assert np.abs(1 / (1 + np.exp(-ov)) - 1 / (1 + np.exp(-ort))).max() < 1e-3


def test_precision_is_explicit(backend_name):
    engine = load_engine("deepfake-steady")
    inbox = SimpleQueue()
    backend = create_backend(backend_name, engine, "auto", inbox, slots=1)
    assert backend.variant == backend.variants[0]
    assert "fp32" in backend.variants
    backend.close()


def test_completions_carry_their_token_and_own_their_memory(backend_name):
    engine = load_engine("deepfake-steady")
    inbox = SimpleQueue()
    backend = create_backend(backend_name, engine, "fp32", inbox, slots=2)
    batch = pictures(engine, 2)
    backend.submit(batch[:1], "first")
    backend.submit(batch[1:], "second")
    done = {completion.token: completion for completion in (inbox.get(timeout=30), inbox.get(timeout=30))}
    assert done.keys() == {"first", "second"}
    kept = done["first"].outputs.copy()
    run(backend, inbox, batch[1:])
    assert np.array_equal(done["first"].outputs, kept)
    assert all(completion.seconds > 0 for completion in done.values())
    backend.close()


def test_more_than_the_slots_is_the_callers_mistake(backend_name):
    engine = load_engine("face-yolov8n")
    inbox = SimpleQueue()
    backend = create_backend(backend_name, engine, "fp32", inbox, slots=1)
    backend.submit(pictures(engine, 1), 1)
    batch = pictures(engine, 1)

    def overbook():
        for token in range(50):
            backend.submit(batch, token)

    with pytest.raises(ValueError, match="all 1 slots of 'face-yolov8n' are in flight"):
        overbook()
    backend.close()


@pytest.mark.parametrize("shape", [(1, 320, 320), (1, 64, 64, 3), (0, 320, 320, 3), (2, 320, 320, 3)])
def test_a_batch_of_another_shape_is_refused(backend_name, shape):
    engine = load_engine("face-yolov8n")
    backend = create_backend(backend_name, engine, "fp32", SimpleQueue(), slots=1)
    with pytest.raises(
        ValueError, match=r"batch for 'face-yolov8n' is uint8 .*, expected uint8 \(1\.\.1, 320, 320, 3\)"
    ):
        backend.submit(np.zeros(shape, np.uint8), 0)
    backend.close()


def test_a_float_batch_is_refused(backend_name):
    engine = load_engine("face-yolov8n")
    backend = create_backend(backend_name, engine, "fp32", SimpleQueue(), slots=1)
    with pytest.raises(ValueError, match="is float32"):
        backend.submit(np.zeros((1, 320, 320, 3), np.float32), 0)
    backend.close()


def test_an_error_of_the_device_is_a_result():
    inbox = SimpleQueue()
    inbox.put(Completion(0, None, BackendError("the device is gone"), 0.0))

    class Gone:
        preferred_batch = 1

        def submit(self, batch, token):
            """Lose the batch: what it says is in the inbox."""

    with pytest.raises(BackendError, match="the device is gone"):
        run(Gone(), inbox, np.zeros((1, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("backend", "variant", "named"),
    [
        ("openvino", "fp8", "has no variant 'fp8' on openvino"),
        ("onnxruntime", "int8", "has no variant 'int8' on onnxruntime"),
        ("abacus", "auto", "backend 'abacus' is not known"),
    ],
)
def test_unknown_choices_are_named(backend, variant, named):
    with pytest.raises(EngineError, match=named):
        create_backend(backend, load_engine("face-yolov8n"), variant, SimpleQueue(), slots=1)


@pytest.mark.parametrize("exact", [True, False])
def test_int8_of_a_detector_finds_what_fp32_finds(monkeypatch, exact):
    if exact and not int8_is_exact():
        pytest.skip("this processor has no VNNI: there its sums overflow")
    monkeypatch.setattr(openvino, "int8_is_exact", lambda: exact)
    engine = load_engine("face-yolov8n")
    assert "int8" in usual_order(engine)
    for faces in (1, 3, 10):
        picture = tiled_faces(faces, engine.input.width)
        whole, narrow = (answers("openvino", engine, variant, picture) for variant in ("fp32", "int8"))
        assert narrow[:, 4].max() == pytest.approx(whole[:, 4].max(), abs=0.05), faces


def test_int8_of_a_classifier_needs_the_sums_that_it_was_calibrated_with(monkeypatch, tmp_path):
    engine = load_engine("deepfake-steady")
    monkeypatch.setattr(openvino, "int8_is_exact", lambda: True)
    assert "int8" in usual_order(engine)
    monkeypatch.setattr(openvino, "int8_is_exact", lambda: False)
    assert "int8" not in usual_order(engine)
    with pytest.raises(EngineError, match=r"can't run as int8 on this processor \(.*it has no VNNI.*Use one of: fp32"):
        OpenVinoBackend(engine, "int8", SimpleQueue(), slots=1, choices=ChoiceCache(tmp_path))


def test_a_file_without_int8_weights_is_not_passed_off_as_narrow(monkeypatch, tmp_path):
    shipped = load_engine("face-yolov8n")
    folder = shutil.copytree(shipped.folder, tmp_path / "engine")
    content = shipped.model("fp32")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / shipped.variants["int8"].file.name).write_bytes(content)
    manifest["variants"]["int8"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(openvino, "int8_is_exact", lambda: False)
    with pytest.raises(EngineError, match="its int8 file has no int8 convolution"):
        create_backend("openvino", load_engine(folder), "int8", SimpleQueue(), slots=1)


def test_a_model_that_openvino_cannot_compile_is_named_with_the_way_out(tmp_path):
    shipped = load_engine("face-yolov8n")
    folder = shutil.copytree(shipped.folder, tmp_path / "engine")
    model = onnx.load(shipped.variants["fp32"].file)
    model.graph.node[0].op_type = "Abacus"
    content = model.SerializeToString()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / shipped.variants["fp32"].file.name).write_bytes(content)
    manifest["variants"]["fp32"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        EngineError, match=r"openvino .* can't compile 'face-yolov8n' \(fp32\).*\. Set .* to onnxruntime"
    ):
        create_backend("openvino", load_engine(folder), "fp32", SimpleQueue(), slots=1)
