"""Both adapters of the device-memory port: pycuda's over a double of its module, cuda-bindings for real over a driver
without a device (`fake_cuda.c`)."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamguard.errors import BackendError, EngineError
from streamguard.inference.memory import PyCudaMemory, open_memory
from tests.inference import pycuda_double

HERE = Path(__file__).parent

# What every child does first.
ROUND_TRIP = """
import ctypes, numpy as np
from streamguard.inference.memory import open_memory
memory = open_memory()
device, host, back = memory.alloc(100), memory.pinned(100), memory.pinned(100)
host[:] = np.arange(100)
memory.h2d(device, host)
memory.d2h(back, device)
memory.wait(memory.mark())
assert np.array_equal(back, host)
print(type(memory).__name__, memory.gpu, memory.stream)
memory.close()
print("left:", ctypes.CDLL("libcuda.so.1").fake_cuda_left())
"""

BATCHES = """
import sys, queue, pathlib, numpy as np
from tests.inference.doubles import TensorRt
from streamguard.inference import tensorrt as adapter
from streamguard.inference.builder import prepare
from streamguard.inference.engines import load_engine
from streamguard.inference.plans import PlanCache
from streamguard.inference.backend import create_backend, run
adapter.build_plan = lambda engine, variant, *_, **__: prepare(engine.model(variant), engine.input, variant)
engine, inbox = load_engine("face-yolov8n"), queue.SimpleQueue()
batch = np.random.default_rng(1).integers(0, 256, (3, 320, 320, 3), np.uint8)
reference = create_backend("onnxruntime", engine, "fp32", inbox, slots=1)
expected = run(reference, inbox, batch)
reference.close()
library, plans = adapter.Library("tensorrt", TensorRt), PlanCache(pathlib.Path(sys.argv[1]))
backend = adapter.TensorRtBackend(library, engine, "fp32", inbox, plans=plans)
for count in (1, 3, 2):
    assert np.array_equal(run(backend, inbox, batch[:count]), expected[:count])
backend.close()
print("equal")
"""


@pytest.fixture(autouse=True)
def fresh_double():
    pycuda_double.calls.clear()
    pycuda_double.refused.clear()


def test_pycuda_takes_the_primary_context_and_gives_everything_back():
    memory = PyCudaMemory(pycuda_double)
    assert (memory.gpu.name, memory.gpu.capability, memory.stream) == ("Double GPU", (7, 5), 0x57)
    device, host, back = memory.alloc(16), memory.pinned(16), memory.pinned(16)
    host[:] = np.arange(16)
    memory.h2d(device, host)
    memory.d2h(back, device)
    memory.wait(memory.mark())
    assert np.array_equal(back, np.arange(16))
    memory.close()
    assert pycuda_double.calls[:3] == ["cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent"]
    assert pycuda_double.calls[-5:] == ["free"] * 3 + ["cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"]


@pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemHostAlloc", "cuMemcpyHtoDAsync", "cuEventSynchronize"])
def test_what_pycuda_raises_is_a_backend_error(call):
    memory = PyCudaMemory(pycuda_double)
    pycuda_double.refused.add(call)

    def use():
        memory.h2d(memory.alloc(4), memory.pinned(4))
        memory.wait(memory.mark())

    with pytest.raises(BackendError, match=f"GPU 'Double GPU': {call} failed: unspecified launch failure"):
        use()


def test_a_lost_device_can_be_closed():
    memory = PyCudaMemory(pycuda_double)
    memory.alloc(4)
    pycuda_double.refused.add("free")
    memory.close()
    assert pycuda_double.calls[-1] == "cuDevicePrimaryCtxRelease"


def test_pycuda_without_a_device_is_named():
    pycuda_double.refused.add("cuInit")
    with pytest.raises(EngineError, match="pycuda can't use GPU 0: cuInit failed"):
        PyCudaMemory(pycuda_double)


def test_a_device_that_gives_no_stream_is_let_go():
    pycuda_double.refused.add("cuStreamCreate")
    with pytest.raises(EngineError, match="pycuda can't use GPU 0: cuStreamCreate failed"):
        PyCudaMemory(pycuda_double)
    assert pycuda_double.calls[-2:] == ["cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"]


def test_the_real_pycuda_carries_bytes_and_batches(fake_driver, tmp_path):
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed; it has no wheels and needs the CUDA toolkit")
    # It pushes the context once more to release it, and leaves that on the ending thread's stack: 100.
    assert fake_driver(ROUND_TRIP, library="pycuda").splitlines() == [
        "PyCudaMemory Gpu(name='Fake GPU', capability=(8, 6)) 87",
        "left: 100",
    ]
    assert fake_driver(BATCHES, str(tmp_path), library="pycuda") == "equal\n"


def test_the_real_cuda_bindings_carry_bytes_and_give_everything_back(fake_driver):
    assert fake_driver(ROUND_TRIP).splitlines() == [
        "CudaBindingsMemory Gpu(name='Fake GPU', capability=(8, 6)) 87",
        "left: 0",
    ]


def test_batches_through_the_real_cuda_bindings_are_bit_equal_to_onnx_runtime(fake_driver, tmp_path):
    assert fake_driver(BATCHES, str(tmp_path)) == "equal\n"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("no device", "EngineError: no NVIDIA GPU can be used: .*cuInit failed: CUDA_ERROR_NO_DEVICE"),
        ("no stream", "EngineError: no NVIDIA GPU can be used: .*cuStreamCreate failed: CUDA_ERROR_INVALID_VALUE"),
        ("no memory", "BackendError: GPU 'Fake GPU': cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"),
        ("lost", "BackendError: GPU 'Fake GPU': cuMemcpyHtoDAsync failed: CUDA_ERROR_LAUNCH_FAILED"),
    ],
)
def test_what_the_driver_answers_is_named(fake_driver, trouble, said):
    with pytest.raises(AssertionError, match=said):
        fake_driver(ROUND_TRIP, trouble=trouble)


def test_without_library_or_driver_the_error_says_what_to_install(monkeypatch):
    for module in ("pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        EngineError, match=r"pycuda\.driver can't be imported .* cuda\.bindings\.driver can't be imp"
    ) as no:
        open_memory()
    assert str(no.value).endswith(
        "Install NVIDIA's driver and `pip install 'streamguard[tensorrt]'`, or choose backend openvino."
    )


@pytest.fixture(scope="module")
def driver_folder(tmp_path_factory):
    """A folder with the driver in it."""
    compiler = shutil.which("cc")
    try:
        import cuda.bindings.driver  # noqa: F401
    except ImportError as error:
        reason = f"no cuda-bindings ({error}); pip install 'streamguard[trt-test]'"
    else:
        reason = "" if compiler else "no C compiler"
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("driver")
    options = ["-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libcuda.so.1")]
    (folder / "rest.c").write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in pycuda_wants()))
    subprocess.run([compiler, *options, str(HERE / "fake_cuda.c"), str(folder / "rest.c"), "-ldl"], check=True)
    (folder / "libcuda.so").symlink_to("libcuda.so.1")
    return folder


def pycuda_wants():
    """Calls that pycuda doesn't load without and that nobody makes; none where it is not installed."""
    found = importlib.util.find_spec("pycuda")
    if found is None:
        return []
    (binary,) = Path(found.origin).parent.glob("_driver*.so")
    listed = subprocess.run(["nm", "-D", "--undefined-only", binary], capture_output=True, text=True, check=True).stdout
    made = re.findall(r"^CUresult (cu\w+)\(", (HERE / "fake_cuda.c").read_text(), re.MULTILINE)
    return sorted(set(re.findall(r"\bcu[A-Z]\w+", listed)) - set(made))


@pytest.fixture
def fake_driver(driver_folder):
    """Run a program in a child that finds the driver; what it says."""

    def run_child(program, *arguments, library="cuda", trouble=""):
        other = "cuda" if library == "pycuda" else "pycuda"
        paths = f"import sys, json; sys.path[:] = json.loads(sys.argv.pop(1)); sys.modules['{other}'] = None\n{program}"
        child = subprocess.run(
            [sys.executable, "-c", paths, json.dumps([str(HERE.parents[1]), *sys.path]), *arguments],
            env=os.environ | {"LD_LIBRARY_PATH": str(driver_folder), "FAKE_CUDA": trouble},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert child.returncode == 0, child.stderr
        return child.stdout

    return run_child
