"""`backend: auto`: each way to the CPU, the way to the GPU between two batches, and what is lost on the way."""

import logging
import sys
import threading
from functools import partial
from queue import SimpleQueue

import numpy as np
import pytest

from streamguard.errors import BackendError, EngineError
from streamguard.inference import tensorrt as adapter
from streamguard.inference.auto import AutoBackend, cpu_variant
from streamguard.inference.backend import create_backend
from streamguard.inference.builder import prepare
from streamguard.inference.engines import load_engine
from streamguard.inference.memory import open_memory
from streamguard.inference.openvino import OpenVinoBackend
from streamguard.inference.plans import PlanCache
from streamguard.inference.tensorrt import Library, TensorRtBackend
from tests.inference.doubles import HostMemory, Runtime, TensorRt

ENGINE = load_engine("face-yolov8n")


@pytest.fixture(autouse=True)
def prepared(monkeypatch):
    monkeypatch.setattr(
        adapter, "build_plan", lambda engine, variant, *_, **__: prepare(engine.model(variant), engine.input, variant)
    )


class Bench:
    """An auto backend over the TensorRT of the doubles and the real OpenVINO."""

    def __init__(self, folder, *, gate=None, fails=None, memory=None, patience=30.0):
        self.inbox = SimpleQueue()
        self.gate, self.fails, self.folder = gate, fails, folder
        self.memory = memory or self._device
        self.device = None
        cpu = partial(OpenVinoBackend, ENGINE, "fp32", slots=2)
        self.backend = AutoBackend(ENGINE, [self._gpu], cpu, self.inbox, patience)

    def _device(self):
        self.device = HostMemory()
        return self.device

    def _gpu(self, completions):
        if self.gate is not None:
            assert self.gate.wait(60)
        if self.fails is not None:
            raise EngineError(self.fails)
        library, plans = Library("tensorrt", TensorRt), PlanCache(self.folder)
        return TensorRtBackend(library, ENGINE, "fp16", completions, memory=self.memory, plans=plans)

    def ask(self, count=1, token="batch"):
        self.backend.submit(np.zeros((count, 320, 320, 3), np.uint8), token)
        done = self.inbox.get(timeout=60)
        assert done.token == token
        return done

    def until(self, name):
        """Submit until ``name`` works; how many batches that took."""
        for count in range(1000):
            if self.backend.name == name:
                return count
            assert self.ask().error is None
        raise AssertionError(f"{name} never works")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.backend.close()


def test_a_sound_gpu_is_taken(tmp_path, caplog):
    with caplog.at_level(logging.INFO), Bench(tmp_path) as bench:
        auto = bench.backend
        assert (auto.name, auto.variant, auto.slots, auto.preferred_batch) == ("tensorrt", "fp16", 2, 8)
        assert bench.ask(8).outputs.shape == (8, 5, 2100)
    assert bench.device.closed
    assert "backend auto: 'face-yolov8n' runs on tensorrt (fp16)" in caplog.text


def test_a_gpu_that_refuses_leaves_the_cpu_and_says_why(tmp_path, caplog):
    with caplog.at_level(logging.INFO), Bench(tmp_path, fails="no driver.") as bench:
        auto = bench.backend
        assert (auto.name, auto.variant, auto.slots, auto.preferred_batch) == ("openvino", "fp32", 2, 1)
        assert "fp32" in auto.variants
        assert bench.ask().outputs.shape == (1, 5, 2100)
    assert "'face-yolov8n' runs on the CPU: no driver\n" in caplog.text


def no_plan(monkeypatch):
    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", lambda self, plan: None)


def no_build(monkeypatch):
    def refuse(engine, variant, module, *_, **__):
        raise EngineError(f"{module} can't build the model '{engine.name}' ({variant}): no")

    monkeypatch.setattr(adapter, "build_plan", refuse)


@pytest.mark.parametrize(
    ("trouble", "memory", "said"),
    [
        (no_plan, None, "tensorrt can't load the plan of 'face-yolov8n' (fp16) that it just built"),
        (no_build, None, "tensorrt can't build the model 'face-yolov8n' (fp16): no"),
        (lambda monkeypatch: None, open_memory, "no NVIDIA GPU can be used: pycuda.driver can't be imported"),
    ],
)
def test_each_refusal_of_the_real_adapter_leaves_the_cpu(tmp_path, caplog, monkeypatch, trouble, memory, said):
    for module in ("pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, module, None)
    trouble(monkeypatch)
    with caplog.at_level(logging.INFO), Bench(tmp_path, memory=memory) as bench:
        assert bench.backend.name == "openvino"
        assert bench.ask().error is None
    assert said in caplog.text


def test_the_cpu_works_while_the_plan_is_built_and_no_batch_is_lost(tmp_path, caplog):
    gate = threading.Event()
    with caplog.at_level(logging.INFO), Bench(tmp_path, gate=gate, patience=0.01) as bench:
        assert bench.backend.name == "openvino"
        assert bench.ask().error is None
        bench.backend.submit(np.zeros((1, 320, 320, 3), np.uint8), "in flight")
        gate.set()
        assert bench.inbox.get(timeout=60).token == "in flight"
        bench.until("tensorrt")
        assert bench.ask(8).outputs.shape == (8, 5, 2100)
    assert "runs on the CPU while its plan for the GPU is built" in caplog.text
    assert "goes over to tensorrt (fp16)" in caplog.text


def test_a_build_that_fails_late_leaves_the_cpu(tmp_path, caplog):
    gate = threading.Event()
    with Bench(tmp_path, gate=gate, fails="the GPU is too old", patience=0.01) as bench:
        gate.set()
        while "stays on the CPU: the GPU is too old" not in caplog.text:
            assert bench.ask().error is None
        assert bench.backend.name == "openvino"


def test_closing_while_the_plan_is_built_lets_the_gpu_go_when_it_comes(tmp_path):
    gate = threading.Event()
    with Bench(tmp_path, gate=gate, patience=0.01) as bench:
        (opening,) = [thread for thread in threading.enumerate() if thread.name == "auto-face-yolov8n"]
    gate.set()
    opening.join(60)
    assert bench.device.closed


def test_closing_before_the_gpu_was_asked_to_work_closes_it(tmp_path):
    gate = threading.Event()
    with Bench(tmp_path, gate=gate, patience=0.01) as bench:
        (opening,) = [thread for thread in threading.enumerate() if thread.name == "auto-face-yolov8n"]
        gate.set()
        opening.join(60)
    assert bench.device.closed


def test_a_lost_gpu_is_a_result_and_the_cpu_goes_on(tmp_path, caplog):
    with Bench(tmp_path) as bench:
        bench.device.fail.add("wait")
        lost = bench.ask(3)
        assert isinstance(lost.error, BackendError)
        assert bench.backend.preferred_batch == 8
        refused = bench.ask(3, "asked for before the change")
        assert "the GPU was lost; 'face-yolov8n' goes on on openvino in smaller batches" in str(refused.error)
        assert bench.backend.preferred_batch == 1
        assert bench.ask().error is None
        assert bench.device.closed
        assert bench.backend.name == "openvino"
    assert "goes on on the CPU: tensorrt lost a batch of 'face-yolov8n': wait failed: the device is gone" in caplog.text
    assert caplog.text.count("goes on on the CPU") == 1


def test_on_this_machine_auto_works_and_names_what_it_tried(caplog, monkeypatch):
    for name in adapter.MODULES:
        monkeypatch.setitem(adapter.MODULES, name, f"{name}_nobody_has")
    inbox = SimpleQueue()
    with caplog.at_level(logging.INFO):
        backend = create_backend("auto", ENGINE, "fp32", inbox, slots=1)
    assert (backend.name, backend.variant) == ("openvino", "fp32")
    backend.close()
    assert "backend 'tensorrt' needs the Python package tensorrt" in caplog.text
    assert "backend 'tensorrt-rtx' needs the Python package tensorrt-rtx" in caplog.text


@pytest.mark.parametrize(
    ("engine", "asked", "given"),
    [
        ("face-yolov8n", "auto", "auto"),
        ("face-yolov8n", "fp16", "fp32"),
        ("face-yolov8n", "int8", "int8"),
        ("deepfake-steady", "auto", "fp32"),
        ("deepfake-steady", "fp16", "fp32"),
        ("deepfake-steady", "fp32", "fp32"),
        ("deepfake-steady", "bf16", "bf16"),
    ],
)
def test_the_precision_on_the_cpu_keeps_the_thresholds(engine, asked, given):
    assert cpu_variant(load_engine(engine), asked) == given
