"""TensorRT adapter, for ``tensorrt`` and ``tensorrt_rtx`` alike: the library comes in as a module.

Everything of CUDA (context, memory, stream, execution) lives in one thread of the backend's own, the only one
that ever calls the driver; whoever submits only fills page-locked memory, which is memory like any other.
Two batches may be in flight: while one computes, the next is prepared and waits in the stream. What the port
promises holds: a device error is a completion, and outputs are copies.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from streamguard.errors import BackendError, EngineError
from streamguard.frames import F32, U8
from streamguard.inference.backend import Completion, Completions, check_batch, choose_variant
from streamguard.inference.builder import PROFILE
from streamguard.inference.engines import Engine
from streamguard.inference.memory import DeviceMemory, open_memory
from streamguard.inference.plans import PlanCache, PlanKey, build_plan, plan_key

log = logging.getLogger(__name__)

BUFFERS: Final = 2
MODULES: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_DAMAGED: Final = (BackendError, RuntimeError, MemoryError)


class Library(NamedTuple):
    """``tensorrt`` or ``tensorrt-rtx``, imported."""

    name: str
    module: Any


def load_library(name: str) -> Library:
    """The library of a backend's name.

    Raises:
        EngineError: it is not installed, or doesn't load.
    """
    try:
        return Library(name, importlib.import_module(MODULES[name]))
    except (ImportError, OSError) as error:
        raise EngineError(
            f"backend '{name}' needs the Python package {name}: {error}. "
            f"Install it (docs/gpu.md), or choose backend openvino."
        ) from error


def offered_variants(engine: Engine) -> tuple[str, ...]:
    """fp16 first: every GPU since 2018 has units for it, and the operating points of fp32 hold for it."""
    return ("fp16", *(("int8",) if "int8" in engine.variants else ()), "fp32")


@dataclass(slots=True)
class _Slot:
    """Room for one batch, here and on the device."""

    pinned_in: U8
    pinned_out: U8
    device_in: int
    device_out: int
    token: object = None
    count: int = 0
    started: float = 0.0
    mark: object = None
    failure: BackendError | None = None


@dataclass(slots=True)
class _Device:
    """What the owning thread holds."""

    memory: DeviceMemory
    context: Any
    loaded: Any
    runtime: Any
    input: str
    output: str
    shape: tuple[int, ...]
    slots: list[_Slot] = field(default_factory=list)


class TensorRtBackend:
    """A plan on a GPU. ``memory`` opens the device; it is called in the thread that will own it.

    Raises:
        EngineError: no such variant, no GPU, or no plan can be built for it.
    """

    preferred_batch: Final = PROFILE.most

    def __init__(
        self,
        library: Library,
        engine: Engine,
        variant: str,
        completions: Completions,
        *,
        slots: int = BUFFERS,
        memory: Callable[[], DeviceMemory] = open_memory,
        plans: PlanCache | None = None,
    ) -> None:
        self.name = library.name
        self.variants = offered_variants(engine)
        self.variant = choose_variant(variant, self.variants, engine, self.name)
        self.slots = min(slots, BUFFERS)
        self._engine = engine
        self._completions = completions
        self._ready: deque[_Slot] = deque()
        self._flying: deque[_Slot] = deque()
        self._owner = ThreadPoolExecutor(1, thread_name_prefix=f"cuda-{engine.name}")
        with ExitStack() as undo:
            undo.callback(self._owner.shutdown)
            opened = self._owner.submit(_open, library, engine, self.variant, self.slots, memory, plans or PlanCache())
            self._device = opened.result()
            undo.pop_all()
        self._idle = list(self._device.slots)

    def submit(self, batch: U8, token: object) -> None:
        check_batch(batch, self._engine, self.preferred_batch)
        if not self._idle:
            raise ValueError(f"all {self.slots} slots of '{self._engine.name}' are in flight")
        slot = self._idle.pop()
        slot.token, slot.count, slot.started = token, len(batch), time.perf_counter()
        slot.pinned_in[: batch.size].reshape(batch.shape)[:] = batch
        self._ready.append(slot)
        self._owner.submit(self._turn)

    def close(self) -> None:
        self._owner.submit(_let_go, self._device).result()
        self._owner.shutdown()

    # In the owning thread: one turn for each batch submitted.

    def _turn(self) -> None:
        """Start whatever is ready, then wait for the oldest batch in flight."""
        while self._ready:
            slot = self._ready.popleft()
            try:
                _launch(self._device, slot)
            except _DAMAGED as error:
                slot.failure = BackendError(f"{self.name} refused a batch of '{self._engine.name}': {error}")
            self._flying.append(slot)
        slot = self._flying.popleft()
        outputs: F32 | None = None
        try:
            outputs = _collect(self._device, slot)
        except _DAMAGED as error:
            lost = BackendError(f"{self.name} lost a batch of '{self._engine.name}': {error}")
            slot.failure = slot.failure or lost
        done = Completion(slot.token, outputs, slot.failure, time.perf_counter() - slot.started)
        slot.token = slot.failure = None
        # The slot is idle before its result is seen, so that whoever sees it may submit at once.
        self._idle.append(slot)
        self._completions.put(done)


def open_tensorrt(name: str, engine: Engine, variant: str, completions: Completions, *, slots: int) -> TensorRtBackend:
    """The backend called ``tensorrt`` or ``tensorrt-rtx`` on the first GPU."""
    return TensorRtBackend(load_library(name), engine, variant, completions, slots=slots)


def _open(
    library: Library, engine: Engine, variant: str, slots: int, memory: Callable[[], DeviceMemory], plans: PlanCache
) -> _Device:
    """Take the device, load the plan, reserve room for ``slots`` batches."""
    trt = library.module
    device = memory()
    with ExitStack() as undo:
        undo.callback(device.close)
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        loaded = _load(library, runtime, engine, variant, device, plans)
        context = loaded.create_execution_context()
        if context is None:
            raise EngineError(f"GPU '{device.gpu.name}' has no room for '{engine.name}'. Choose backend openvino.")
        opened = _Device(device, context, loaded, runtime, *_ends(trt, loaded, engine))
        opened.slots += [_reserve(opened, engine) for _ in range(slots)]
        undo.pop_all()
    return opened


def _load(library: Library, runtime: Any, engine: Engine, variant: str, device: DeviceMemory, plans: PlanCache) -> Any:
    """The plan for this device, deserialised; one that the library refuses is built once more."""
    module = MODULES[library.name]
    capability = ".".join(map(str, device.gpu.capability))
    # A plan of TensorRT holds kernels chosen on one model of GPU; one of TensorRT-RTX fits all of a capability.
    gpu = device.gpu.name if module == "tensorrt" else ""
    key: PlanKey = plan_key(
        engine, variant, module, str(library.module.__version__), capability, gpu=gpu, profile=PROFILE
    )
    build = partial(build_plan, engine, variant, module, (capability,), profile=PROFILE)
    for _ in range(2):
        loaded = runtime.deserialize_cuda_engine(plans.get(key, build))
        if loaded is not None:
            return loaded
        plans.discard(key, f"{module} can't load it")
    raise EngineError(
        f"{module} can't load the plan of '{engine.name}' ({variant}) that it just built for '{device.gpu.name}' "
        f"(compute capability {capability}). Check the driver's version, or choose backend openvino."
    )


def _ends(trt: Any, loaded: Any, engine: Engine) -> tuple[str, str, tuple[int, ...]]:
    """Input name, output name and shape of one output; a plan of another form is refused."""
    names = [loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)]
    inputs = [name for name in names if loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    wanted = (trt.uint8, trt.float32)
    if inputs != [engine.input.name] or len(outputs) != 1:
        raise EngineError(
            f"the plan of '{engine.name}' has inputs {inputs}, outputs {outputs}; one of each is expected"
        )
    found = tuple(loaded.get_tensor_dtype(name) for name in (*inputs, *outputs))
    if found != wanted:
        raise EngineError(f"the plan of '{engine.name}' has types {found}, expected {wanted}")
    return inputs[0], outputs[0], tuple(loaded.get_tensor_shape(outputs[0]))[1:]


def _reserve(device: _Device, engine: Engine) -> _Slot:
    count, spec, memory = PROFILE.most, engine.input, device.memory
    taken = count * spec.height * spec.width * 3
    given = count * int(np.prod(device.shape)) * np.dtype(np.float32).itemsize
    return _Slot(memory.pinned(taken), memory.pinned(given), memory.alloc(taken), memory.alloc(given))


def _launch(device: _Device, slot: _Slot) -> None:
    """Put a batch in the stream: copy, execute, copy back, mark."""
    context, memory = device.context, device.memory
    slot.mark = None
    shape = (slot.count, *tuple(device.loaded.get_tensor_shape(device.input))[1:])
    taken, given = int(np.prod(shape)), slot.count * int(np.prod(device.shape)) * np.dtype(np.float32).itemsize
    accepted = (
        context.set_input_shape(device.input, shape)
        and context.set_tensor_address(device.input, slot.device_in)
        and context.set_tensor_address(device.output, slot.device_out)
    )
    if not accepted:
        raise BackendError(f"the plan takes no batch of {slot.count}")
    memory.h2d(slot.device_in, slot.pinned_in[:taken])
    started = context.execute_async_v3(memory.stream)
    if started:
        memory.d2h(slot.pinned_out[:given], slot.device_out)
    slot.mark = memory.mark()
    if not started:
        raise BackendError("the execution could not be started")


def _collect(device: _Device, slot: _Slot) -> F32 | None:
    """Wait for a batch; its outputs, copied. None for one that was never started."""
    if slot.mark is not None:
        # Also after a refusal: the copy in front of it may still read the page-locked memory.
        device.memory.wait(slot.mark)
    if slot.failure is not None:
        return None
    shape = (slot.count, *device.shape)
    return slot.pinned_out.view(np.float32)[: int(np.prod(shape))].reshape(shape).copy()


def _let_go(device: _Device) -> None:
    """Free the device, what uses it first."""
    device.context = device.loaded = device.runtime = None
    device.slots.clear()
    device.memory.close()
