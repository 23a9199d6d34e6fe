"""What goes in front of a model, and real builds with TensorRT-RTX, which needs no GPU for it."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from streamguard.errors import EngineError
from streamguard.inference.builder import PROFILE, BuildRequest, Profile, build, main, prepare
from streamguard.inference.engines import InputSpec, engine_folders, load_engine
from tests.inference.rtx import require_rtx

onnx = pytest.importorskip("onnx", reason="no onnx; pip install 'streamguard[trt-test]'")

TINY = InputSpec("images", 16, 16, 255.0, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
SHIPPED = [
    (folder.name, variant)
    for folder in engine_folders()
    for variant in ("fp32", "fp16", "int8")
    if variant != "int8" or "int8" in load_engine(folder).variants
]


def tiny(op="Conv"):
    """A model of one convolution, or of one operation that nobody has."""
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node = helper.make_node(op, ["images", "w", "b"], ["raw"], domain="" if op == "Conv" else "nobody")
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["raw"], ["out"])],
        "tiny",
        [helper.make_tensor_value_info("images", kinds.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("out", kinds.FLOAT, ["batch", 4, 14, 14])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(4, np.float32), "b")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def asked(variant="fp32", capabilities=("8.9",), profile=PROFILE, spec=TINY):
    return BuildRequest("tensorrt_rtx", "tiny", variant, spec, capabilities, profile)


def session(model):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_the_prepared_model_takes_pictures_and_normalises_them():
    batch = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)
    prepared = session(prepare(tiny(), TINY, "fp32"))
    assert prepared.get_inputs()[0].shape == ["batch", 16, 16, 3]
    assert prepared.get_inputs()[0].type == "tensor(uint8)"
    (found,) = prepared.run(None, {"images": batch})
    by_hand = (batch / 255.0 - TINY.mean) / TINY.std
    (expected,) = session(tiny()).run(None, {"images": by_hand.transpose(0, 3, 1, 2).astype(np.float32)})
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(("name", "variant"), SHIPPED)
def test_every_shipped_model_is_sound_after_preparation(name, variant):
    engine = load_engine(name)
    prepared = onnx.load_model_from_string(prepare(engine.model(variant), engine.input, variant))
    onnx.checker.check_model(prepared)
    weights = {tensor.data_type for tensor in prepared.graph.initializer}
    assert (onnx.TensorProto.FLOAT16 in weights) == (variant == "fp16")
    assert (onnx.TensorProto.INT8 in weights) == (variant == "int8")
    assert prepared.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_fp16_stays_near_fp32():
    engine = load_engine("face-yolov8n")
    batch = np.random.default_rng(1).integers(0, 256, (1, 320, 320, 3), np.uint8)
    full, half = (
        session(prepare(engine.model(variant), engine.input, variant)).run(None, {engine.input.name: batch})[0]
        for variant in ("fp32", "fp16")
    )
    assert 0 < np.abs(full[:, 4] - half[:, 4]).max() < 1e-2


@pytest.mark.parametrize(
    ("model", "spec", "said"),
    [
        (b"garbage", TINY, "not a readable ONNX model"),
        (tiny(), replace(TINY, name="pictures"), "the ONNX model's inputs are images; the manifest names 'pictures'"),
    ],
)
def test_a_model_that_does_not_fit_is_named(model, spec, said):
    with pytest.raises(EngineError, match=said):
        prepare(model, spec, "fp32")


def test_a_model_that_reads_what_nothing_makes_is_named():
    model = onnx.load_model_from_string(tiny())
    model.graph.node[1].input[0] = "nothing"
    with pytest.raises(EngineError, match="reads 'nothing', which nothing in it makes"):
        prepare(model.SerializeToString(), TINY, "fp32")


def test_a_request_survives_its_file():
    request = asked("int8", ("8.6", "12.0"), Profile(1, 2, 4))
    assert BuildRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(("name", "variant"), SHIPPED)
def test_tensorrt_rtx_builds_every_shipped_model_for_two_kinds_of_gpu(name, variant):
    trt = require_rtx()
    engine = load_engine(name)
    request = BuildRequest("tensorrt_rtx", name, variant, engine.input, ("8.6", "12.0"))
    plan = build(trt, prepare(engine.model(variant), engine.input, variant), request)
    assert plan[:4] == b"vtrt"
    assert len(plan) > 1_000_000


def test_turing_is_served_when_it_is_named():
    assert build(require_rtx(), prepare(tiny(), TINY, "fp32"), asked(capabilities=("7.5",)))[:4] == b"vtrt"


def test_a_gpu_that_is_not_served_is_named():
    with pytest.raises(EngineError, match=r"serves no GPU of compute capability 9\.0; it serves 7\.5, 8\.0, 8\.6"):
        build(require_rtx(), prepare(tiny(), TINY, "fp32"), asked(capabilities=("8.9", "9.0")))


def test_garbage_is_refused_by_the_parser():
    with pytest.raises(EngineError, match=r"tensorrt_rtx can't read the model 'tiny' \(fp32\): "):
        build(require_rtx(), b"garbage", asked())


def test_an_operation_that_nobody_has_is_refused():
    with pytest.raises(EngineError, match=r"can't (read|build) the model 'tiny' \(fp32\): .*"):
        build(require_rtx(), prepare(tiny("Levitate"), TINY, "fp32"), asked())


def test_a_profile_of_another_size_is_refused():
    trt = require_rtx()
    with pytest.raises(EngineError, match="can't build the model 'tiny'"):
        build(trt, prepare(tiny(), TINY, "fp32"), asked(spec=replace(TINY, height=32)))


def test_without_a_profile_nothing_is_built(monkeypatch):
    trt = require_rtx()
    monkeypatch.setattr(trt.IBuilderConfig, "add_optimization_profile", lambda config, profile: 0)
    with pytest.raises(EngineError, match=r"can't build the model 'tiny' .*profile"):
        build(trt, prepare(tiny(), TINY, "fp32"), asked())


def test_asymmetric_int8_is_refused(tmp_path):
    """ONNX Runtime's own kind, uint8 activations and an int32 bias: why the engines carry symmetric int8."""
    trt = require_rtx()
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):
        def __init__(self):
            random = np.random.default_rng(2)
            self._left = [{"images": random.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]

        def get_next(self):
            return self._left.pop() if self._left else None

    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    source.write_bytes(tiny())
    quantization.quantize_static(str(source), str(target), Pictures(), quant_format=quantization.QuantFormat.QDQ)
    with pytest.raises(EngineError, match=r"can't read the model 'tiny' \(int8\): .*Int32.* must have type"):
        build(trt, prepare(target.read_bytes(), TINY, "int8"), asked("int8"))


def test_the_childs_main_leaves_plan_or_refusal(tmp_path):
    require_rtx()
    (tmp_path / "model.onnx").write_bytes(tiny())
    (tmp_path / "request.json").write_text(asked().to_json())
    assert main(str(tmp_path)) == 0
    assert (tmp_path / "model.plan").read_bytes()[:4] == b"vtrt"
    (tmp_path / "model.onnx").write_bytes(b"garbage")
    assert main(str(tmp_path)) == 1
    assert "not a readable ONNX model" in (tmp_path / "refusal.txt").read_text()
