"""The backend port: what a runtime must offer to carry a model.

A batch is submitted with a token and comes back, with its outputs copied, as a :class:`Completion` on the
queue that the backend was given. A device error comes back the same way, as a result: nothing is ever
raised out of a runtime's callback. Precision is always explicit; no adapter lets the CPU choose.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import numpy as np

from streamguard.errors import BackendError, EngineError
from streamguard.frames import F32, U8
from streamguard.inference.engines import Engine


class Completion(NamedTuple):
    """One finished batch: ``outputs`` (N, ...) float32, or ``error``; ``seconds`` from submission to result."""

    token: object
    outputs: F32 | None
    error: BackendError | None
    seconds: float


class Backend(Protocol):
    """A compiled model on a device. One thread, its owner, calls every method."""

    @property
    def name(self) -> str:
        """Of the backend, as the configuration writes it."""

    @property
    def variant(self) -> str:
        """The precision that runs."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The precisions that this engine could run in here, the backend's first choice in front."""

    @property
    def preferred_batch(self) -> int:
        """Pictures a batch that the device works best with: the most that :meth:`submit` takes."""

    @property
    def slots(self) -> int:
        """Batches that may be in flight."""

    def submit(self, batch: U8, token: object) -> None:
        """Start a batch, (N, H, W, 3) uint8 RGB, N <= ``preferred_batch``; at most ``slots`` may be in flight.

        Raises:
            ValueError: the batch has another shape, or no slot is free: the caller's bookkeeping is wrong.
        """

    def close(self) -> None:
        """Wait for what is in flight, then free the device."""


Completions = SimpleQueue[Any]
"""Where completions arrive. The inference thread's inbox carries its other messages on the same queue."""

_BACKENDS = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "auto")


def create_backend(name: str, engine: Engine, variant: str, completions: Completions, *, slots: int) -> Backend:
    """The adapter called ``name`` with ``engine`` compiled in precision ``variant`` (``auto``: its first choice).

    Raises:
        EngineError: no such backend, or no such variant on it.
    """
    if name == "openvino":
        from streamguard.inference.openvino import OpenVinoBackend

        return OpenVinoBackend(engine, variant, completions, slots=slots)
    if name == "onnxruntime":
        from streamguard.inference.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(engine, variant, completions, slots=slots)
    if name in ("tensorrt", "tensorrt-rtx"):
        from streamguard.inference.tensorrt import open_tensorrt

        return open_tensorrt(name, engine, variant, completions, slots=slots)
    if name == "auto":
        from streamguard.inference.auto import open_auto

        return open_auto(engine, variant, completions, slots=slots)
    raise EngineError(f"backend '{name}' is not known. Use one of: {', '.join(_BACKENDS)}.")


def choose_variant(wanted: str, offered: tuple[str, ...], engine: Engine, backend: str) -> str:
    """``wanted``, or the first of ``offered`` for ``auto``.

    Raises:
        EngineError: the variant is not offered for this engine on this backend.
    """
    if wanted == "auto":
        return offered[0]
    if wanted not in offered:
        raise EngineError(
            f"engine '{engine.name}' has no variant '{wanted}' on {backend}. Use one of: {', '.join(offered)}, or auto."
        )
    return wanted


def check_batch(batch: U8, engine: Engine, limit: int) -> None:
    """Refuse a batch that is not (1..limit, H, W, 3) uint8."""
    expected = (engine.input.height, engine.input.width, 3)
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != expected or not 1 <= len(batch) <= limit:
        raise ValueError(
            f"batch for '{engine.name}' is {batch.dtype} {batch.shape}, "
            f"expected uint8 (1..{limit}, {', '.join(map(str, expected))})"
        )


def run(backend: Backend, completions: Completions, pictures: U8) -> F32:
    """Synchronous form for tests, calibration and benchmarks: all of ``pictures``, in order.

    ``completions`` is the queue the backend was created with, used by nobody else meanwhile.

    Raises:
        BackendError: the device refused a batch.
    """
    step = backend.preferred_batch
    results: list[F32] = []
    for start in range(0, len(pictures), step):
        backend.submit(pictures[start : start + step], start)
        done: Completion = completions.get()
        if done.error is not None:
            raise done.error
        assert done.outputs is not None
        results.append(done.outputs)
    return np.concatenate(results)
