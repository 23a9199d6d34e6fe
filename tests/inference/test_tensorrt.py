"""The TensorRT adapter without a GPU: over a device of host memory, and a TensorRT that runs ONNX Runtime.

What this can't show (numbers of the kernels, speed, hazards of a real stream) the tests marked `gpu` show, where
there is a GPU.
"""

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from queue import SimpleQueue

import numpy as np
import pytest

from streamguard.errors import BackendError, EngineError
from streamguard.inference import tensorrt as adapter
from streamguard.inference.backend import create_backend, run
from streamguard.inference.builder import prepare
from streamguard.inference.engines import engine_folders, load_engine
from streamguard.inference.memory import open_memory
from streamguard.inference.plans import PlanCache
from streamguard.inference.tensorrt import Library, TensorRtBackend
from tests.inference.doubles import HostMemory, ICudaEngine, IExecutionContext, Logger, Runtime, TensorIOMode, TensorRt
from tests.inference.rtx import require_rtx
from tests.media import astronaut_letterboxed

DOUBLE = Library("tensorrt", TensorRt)
SHIPPED = [folder.name for folder in engine_folders()]


@pytest.fixture
def prepared(monkeypatch):
    """Builds are no builds: the double's plan is the prepared model."""
    built = []

    def build(engine, variant, module, capabilities, *, profile):
        built.append((engine.name, variant, module, capabilities, profile))
        return prepare(engine.model(variant), engine.input, variant)

    monkeypatch.setattr(adapter, "build_plan", build)
    return built


class Bench:
    """A backend over the doubles, with its queue and its device."""

    def __init__(self, folder, engine="face-yolov8n", variant="fp32", slots=2):
        self.engine = load_engine(engine)
        self.inbox = SimpleQueue()
        self.cache = PlanCache(folder)
        self.backend = TensorRtBackend(
            DOUBLE, self.engine, variant, self.inbox, slots=slots, memory=self._open, plans=self.cache
        )

    def _open(self):
        self.device = HostMemory()
        return self.device

    def get(self):
        return self.inbox.get(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.backend.close()


def pictures(engine, count):
    """A photograph and noise, (count, H, W, 3) uint8."""
    size = (engine.input.height, engine.input.width, 3)
    noise = np.random.default_rng(5).integers(0, 256, (count, *size), np.uint8)
    noise[0] = astronaut_letterboxed(engine.input.width, engine.input.height)
    return noise


def reference(engine, batch):
    inbox = SimpleQueue()
    backend = create_backend("onnxruntime", engine, "fp32", inbox, slots=1)
    try:
        return run(backend, inbox, batch)
    finally:
        backend.close()


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("name", SHIPPED)
def test_batches_of_any_size_are_bit_equal_to_onnx_runtime(name, tmp_path):
    engine = load_engine(name)
    batch = pictures(engine, 8)
    expected = reference(engine, batch)
    with Bench(tmp_path, name) as bench:
        assert bench.backend.preferred_batch == 8
        for count in (1, 3, 8, 2):
            bench.backend.submit(batch[:count], count)
            done = bench.get()
            assert (done.token, done.error) == (count, None)
            assert done.outputs.dtype == np.float32
            assert np.array_equal(done.outputs, expected[:count])
            assert done.seconds > 0


@pytest.mark.usefixtures("prepared")
def test_two_batches_in_flight_keep_their_pictures_and_their_results(tmp_path):
    engine = load_engine("face-yolov8n")
    batch = pictures(engine, 3)
    expected = reference(engine, batch)
    with Bench(tmp_path) as bench:
        kept = []
        for round_ in range(3):
            mine = batch.copy()
            bench.backend.submit(mine[:1], (round_, 0))
            bench.backend.submit(mine[1:3], (round_, 1))
            mine[:] = 0  # the caller may use its memory again at once
            with pytest.raises(ValueError, match="all 2 slots of 'face-yolov8n' are in flight"):
                bench.backend.submit(mine[:1], "too many")
            kept += [bench.get(), bench.get()]
        for index, done in enumerate(kept):
            assert done.token == (index // 2, index % 2)
            assert np.array_equal(done.outputs, expected[1:3] if index % 2 else expected[:1])


@pytest.mark.usefixtures("prepared")
def test_the_variants_are_named_and_fp16_is_the_first_choice(tmp_path):
    with Bench(tmp_path, variant="auto", slots=8) as bench:
        assert bench.backend.variants == ("fp16", "int8", "fp32")
        assert (bench.backend.name, bench.backend.variant, bench.backend.slots) == ("tensorrt", "fp16", 2)
    with pytest.raises(EngineError, match=r"has no variant 'bf16' on tensorrt\. Use one of: fp16, int8, fp32, or auto"):
        Bench(tmp_path, variant="bf16")


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("call", ["h2d", "execute", "d2h", "mark", "wait"])
def test_a_device_error_is_a_completion_and_the_backend_can_still_be_closed(tmp_path, call):
    with Bench(tmp_path) as bench:
        batch = pictures(bench.engine, 2)
        bench.device.fail.add(call)
        for token in ("first", "second", "third"):
            bench.backend.submit(batch, token)
            done = bench.get()
            assert done.token == token
            assert done.outputs is None
            assert isinstance(done.error, BackendError)
            assert "batch of 'face-yolov8n'" in str(done.error)
    assert bench.device.closed


@pytest.mark.usefixtures("prepared")
def test_a_refused_batch_does_not_spoil_the_next(tmp_path):
    with Bench(tmp_path) as bench:
        batch = pictures(bench.engine, 2)
        bench.device.fail.add("execute")
        bench.backend.submit(batch, 1)
        assert "could not be started" in str(bench.get().error)
        bench.device.fail.clear()
        bench.backend.submit(batch, 2)
        assert np.array_equal(bench.get().outputs, reference(bench.engine, batch))


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("shape", [(9, 320, 320, 3), (0, 320, 320, 3), (1, 64, 64, 3)])
def test_a_batch_of_another_shape_is_refused(tmp_path, shape):
    with (
        Bench(tmp_path) as bench,
        pytest.raises(
            ValueError, match=r"batch for 'face-yolov8n' is uint8 .*, expected uint8 \(1\.\.8, 320, 320, 3\)"
        ),
    ):
        bench.backend.submit(np.zeros(shape, np.uint8), 0)


def test_a_plan_is_built_once_and_kept(tmp_path, prepared):
    for _ in range(2):
        with Bench(tmp_path):
            pass
    assert prepared == [("face-yolov8n", "fp32", "tensorrt", ("8.9",), (1, 8, 8))]


def test_a_plan_that_the_library_refuses_is_built_again_by_name(tmp_path, prepared, caplog, monkeypatch):
    with Bench(tmp_path):
        pass
    loaded = iter([None])
    real = Runtime.deserialize_cuda_engine
    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", lambda self, plan: next(loaded, real(self, plan)))
    with caplog.at_level(logging.WARNING), Bench(tmp_path):
        pass
    assert len(prepared) == 2
    assert "face-yolov8n.fp32.tensorrt.8.9.plan' is built again: tensorrt can't load it" in caplog.text


@pytest.mark.usefixtures("prepared")
def test_a_library_that_loads_no_plan_at_all_is_named_and_the_device_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", lambda self, plan: None)
    opened = []

    def device():
        opened.append(HostMemory())
        return opened[0]

    with pytest.raises(EngineError, match=r"tensorrt can't load the plan of 'face-yolov8n' .* 'Host GPU'"):
        TensorRtBackend(
            DOUBLE, load_engine("face-yolov8n"), "fp32", SimpleQueue(), memory=device, plans=PlanCache(tmp_path)
        )
    assert opened[0].closed


def test_a_plan_of_another_form_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "build_plan", lambda engine, variant, *_, **__: engine.model(variant))
    with pytest.raises(EngineError, match="the plan of 'face-yolov8n' has types"):
        Bench(tmp_path)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_not_there_is_named(name, monkeypatch):
    monkeypatch.setitem(adapter.MODULES, name, "tensorrt_nobody_has")
    with pytest.raises(EngineError, match=f"backend '{name}' needs the Python package {name}: No module named"):
        create_backend(name, load_engine("face-yolov8n"), "auto", SimpleQueue(), slots=1)


# What adapter and builder use of either library. The adapter's part is what the doubles have: it has run on them.
USED = {
    double.__name__: [name for name in vars(double) if name[0] != "_" and name not in ("session", "input", "output")]
    for double in (Logger, Runtime, ICudaEngine, IExecutionContext, TensorIOMode)
} | {
    "Builder": ["create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network"],
    "BuilderFlag": ["TF32"],
    "IBuilderConfig": ["clear_flag", "add_optimization_profile"],
    "ILogger": ["ERROR", "INTERNAL_ERROR", "log"],
    "IOptimizationProfile": ["set_shape"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "OnnxParser": ["parse", "num_errors", "get_error"],
    "ParserError": ["desc"],
    "DataType": ["UINT8", "FLOAT"],
}


def test_what_is_used_exists_in_the_real_tensorrt_rtx():
    trt = require_rtx()
    assert [f"{kind}.{name}" for kind in USED for name in USED[kind] if not hasattr(getattr(trt, kind), name)] == []
    assert (trt.uint8, trt.float32) == (trt.DataType.UINT8, trt.DataType.FLOAT)


# The libraries that the bindings of TensorRT 11 load, and the functions that they look for there.
HOLLOW = {
    "nvinfer": [
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ],
    "nvinfer_plugin": ["initLibNvInferPlugins"],
    "nvonnxparser": [
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ],
}


def test_what_is_used_exists_in_the_real_tensorrt(tmp_path):
    """Its libraries are not on PyPI, its Python bindings are: they load over libraries that only have the names."""
    missing = [] if importlib.util.find_spec("tensorrt_bindings") else ["tensorrt-cu13-bindings"]
    missing += [] if shutil.which("cc") else ["a C compiler"]
    if missing:
        reason = f"no {', no '.join(missing)}; pip install 'streamguard[trt-test]'"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    for name, functions in HOLLOW.items():
        file = f"lib{name}.so.11"
        source = "".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions)
        options = ["-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(tmp_path / file), "-x", "c", "-"]
        subprocess.run(["cc", *options], input=source, text=True, check=True)
    program = (
        "import json, sys; sys.path[:], used = json.loads(sys.argv[1]); import tensorrt_bindings as trt; "
        "print(trt.__version__, [(k, n) for k in used for n in used[k] if not hasattr(getattr(trt, k), n)], "
        "(trt.uint8, trt.float32) == (trt.DataType.UINT8, trt.DataType.FLOAT))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([sys.path, USED])],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert re.fullmatch(r"11\.[\d.]+ \[\] True\n", done.stdout), done.stdout + done.stderr


def _gpu_reason():
    if importlib.util.find_spec("tensorrt") is None and importlib.util.find_spec("tensorrt_rtx") is None:
        return "neither tensorrt nor tensorrt-rtx is installed"
    try:
        open_memory().close()
    except EngineError as error:
        return str(error)
    return None


@pytest.mark.gpu
@pytest.mark.parametrize(("variant", "tolerance"), [("fp32", 1e-3), ("fp16", 1e-2)])
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("engine", SHIPPED)
def test_a_gpu_agrees_with_onnx_runtime(engine, name, variant, tolerance, tmp_path):
    reason = _gpu_reason()
    if reason is not None:
        pytest.skip(reason)
    if importlib.util.find_spec(adapter.MODULES[name]) is None:
        pytest.skip(f"{name} is not installed")
    loaded = load_engine(engine)
    batch = pictures(loaded, 8)
    expected = reference(loaded, batch)
    inbox = SimpleQueue()
    backend = TensorRtBackend(adapter.load_library(name), loaded, variant, inbox, plans=PlanCache(tmp_path))
    try:
        for count in (1, 3, 8, 2):
            found = run(backend, inbox, batch[:count])
            # A face's score, or a probability: both from 0 to 1. Boxes in pixels.
            if loaded.task == "detect":
                assert np.abs(found[:, 4] - expected[:count, 4]).max() < tolerance
                seen = expected[:count, 4] > 0.3
                assert np.abs(found[:, :4] - expected[:count, :4]).max(axis=1)[seen].max(initial=0) < 1000 * tolerance
            else:
                assert np.abs(1 / (1 + np.exp(-found)) - 1 / (1 + np.exp(-expected[:count]))).max() < tolerance
    finally:
        backend.close()
