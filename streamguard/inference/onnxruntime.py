"""ONNX Runtime adapter: the reference, and the fallback where OpenVINO is not at hand. fp32 only.

The int8 files are symmetric on both sides for TensorRT and OpenVINO; ONNX Runtime runs that kind three
times slower than fp32, and fp16 slower still, so neither is offered here.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from streamguard.errors import BackendError
from streamguard.frames import F32, U8
from streamguard.inference.backend import Completion, Completions, check_batch, choose_variant
from streamguard.inference.engines import Engine


class OnnxRuntimeBackend:
    """A session shared by ``slots`` threads; a session's ``run`` is thread-safe and releases the GIL."""

    name: Final = "onnxruntime"
    preferred_batch: Final = 1
    variants: Final[tuple[str, ...]] = ("fp32",)

    def __init__(self, engine: Engine, variant: str, completions: Completions, *, slots: int) -> None:
        self.variant = choose_variant(variant, self.variants, engine, self.name)
        self.slots = slots
        self._engine = engine
        self._completions = completions
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(engine.model(self.variant), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        spec = engine.input
        self._mean = np.array([m * spec.scale for m in spec.mean], np.float32)
        self._std = np.array([s * spec.scale for s in spec.std], np.float32)
        self._free = Semaphore(slots)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix=f"ort-{engine.name}")

    def submit(self, batch: U8, token: object) -> None:
        check_batch(batch, self._engine, self.preferred_batch)
        if not self._free.acquire(blocking=False):
            raise ValueError(f"all {self.slots} slots of '{self._engine.name}' are in flight")
        self._pool.submit(self._run, batch, token, time.perf_counter())

    def _run(self, batch: U8, token: object, started: float) -> None:
        outputs: F32 | None = None
        failure: BackendError | None = None
        try:
            tensor = ((batch - self._mean) / self._std).transpose(0, 3, 1, 2)
            outputs = np.asarray(self._session.run(None, {self._input: np.ascontiguousarray(tensor)})[0], np.float32)
        except (Fail, RuntimeException, MemoryError) as error:
            failure = BackendError(f"ONNX Runtime lost a batch of '{self._engine.name}': {error}")
        self._free.release()
        self._completions.put(Completion(token, outputs, failure, time.perf_counter() - started))

    def close(self) -> None:
        self._pool.shutdown(wait=True)
