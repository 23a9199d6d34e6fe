"""``backend: auto``: the GPU where driver, library and plan are sound, else the CPU, and one line that says why.

The first start doesn't wait for a plan to be built: the CPU works meanwhile, and the GPU takes over between two
batches. A GPU that loses a batch is not asked again: the CPU goes on. What was lost on the way comes back as an
error, so it is counted like any other loss.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from streamguard.errors import BackendError, EngineError
from streamguard.frames import U8
from streamguard.inference.backend import Backend, Completion, Completions
from streamguard.inference.engines import Engine

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds that a start waits for the GPU: enough to load a plan, seldom enough to build one."""

Opener = Callable[[Completions], Backend]


class AutoBackend:
    """The first of ``gpus`` that opens, or ``cpu``. Both are called with the queue for their completions.

    Raises:
        EngineError: the CPU can't carry the engine either.
    """

    def __init__(
        self, engine: Engine, gpus: Sequence[Opener], cpu: Opener, completions: Completions, patience: float = PATIENCE
    ) -> None:
        self._engine = engine
        self._cpu = cpu
        self._completions = completions
        self._watched = _Watched(completions)
        self._opened: SimpleQueue[Backend | str] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._waiting = True
        threading.Thread(target=self._open, args=(gpus,), name=f"auto-{engine.name}", daemon=True).start()
        found = self._take(patience)
        if isinstance(found, str):
            log.info("backend auto: '%s' runs on the CPU: %s", engine.name, found)
        elif found is None:
            log.info("backend auto: '%s' runs on the CPU while its plan for the GPU is built", engine.name)
        self._now = self._cpu(completions) if found is None or isinstance(found, str) else found
        log.info("backend auto: '%s' runs on %s (%s)", engine.name, self.name, self.variant)

    @property
    def name(self) -> str:
        """Of the backend that works at the moment."""
        return self._now.name

    @property
    def variant(self) -> str:
        return self._now.variant

    @property
    def variants(self) -> tuple[str, ...]:
        return self._now.variants

    @property
    def preferred_batch(self) -> int:
        return self._now.preferred_batch

    @property
    def slots(self) -> int:
        return self._now.slots

    def submit(self, batch: U8, token: object) -> None:
        self._change()
        if len(batch) > self.preferred_batch:
            # The caller asked before the change. One batch more is lost, and counted.
            error = BackendError(f"the GPU was lost; '{self._engine.name}' goes on on {self.name} in smaller batches")
            self._completions.put(Completion(token, None, error, 0.0))
            return
        self._now.submit(batch, token)

    def close(self) -> None:
        with self._closing:
            self._closed = True
        left = self._take(0.0)
        if left is not None and not isinstance(left, str):
            left.close()
        self._now.close()

    def _change(self) -> None:
        """Go over to the GPU if it has opened, or to the CPU if the GPU is lost."""
        before = self._now
        if self._watched.lost is not None:
            log.error("backend auto: '%s' goes on on the CPU: %s", self._engine.name, self._watched.lost)
            self._watched.lost = None
            self._now = self._cpu(self._completions)
        else:
            found = self._take(0.0)
            if found is None:
                return
            if isinstance(found, str):
                log.warning("backend auto: '%s' stays on the CPU: %s", self._engine.name, found)
                return
            log.info("backend auto: '%s' goes over to %s (%s)", self._engine.name, found.name, found.variant)
            self._now = found
        before.close()

    def _take(self, patience: float) -> Backend | str | None:
        """What has come of the GPU: a backend, the reasons why not, or nothing yet."""
        if not self._waiting:
            return None
        try:
            found = self._opened.get(timeout=patience) if patience > 0 else self._opened.get_nowait()
        except Empty:
            return None
        self._waiting = False
        return found

    def _open(self, gpus: Sequence[Opener]) -> None:
        # In a thread of its own: it may build a plan, which takes minutes.
        reasons: list[str] = []
        for opener in gpus:
            try:
                gpu = opener(self._watched)
            except EngineError as error:
                reasons.append(str(error).rstrip("."))
                continue
            with self._closing:
                if not self._closed:
                    self._opened.put(gpu)
                    return
            gpu.close()
            return
        self._opened.put("; ".join(reasons))


class _Watched(SimpleQueue[Any]):
    """Hands completions on, and remembers that one of them was lost."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions
        self.lost: BackendError | None = None

    def put(self, item: Completion, block: bool = True, timeout: float | None = None) -> None:
        if item.error is not None:
            self.lost = item.error
        self._completions.put(item)


def open_auto(engine: Engine, variant: str, completions: Completions, *, slots: int) -> AutoBackend:
    """``auto`` on this machine: TensorRT, TensorRT-RTX, OpenVINO, in this order."""
    from streamguard.inference.openvino import OpenVinoBackend
    from streamguard.inference.tensorrt import MODULES, open_tensorrt

    gpus = [partial(open_tensorrt, name, engine, variant, slots=slots) for name in MODULES]
    cpu = partial(OpenVinoBackend, engine, cpu_variant(engine, variant), slots=slots)
    return AutoBackend(engine, gpus, cpu, completions)


def cpu_variant(engine: Engine, variant: str) -> str:
    """The precision on the CPU that goes with ``variant`` on the GPU.

    A judgement's thresholds belong to the file that it was calibrated with, so a classifier stays with that:
    fp16 derives from fp32. A detector's answers are boxes: it may take the CPU's fastest.
    """
    if variant == "fp16" or (variant == "auto" and engine.task == "classify"):
        return "fp32"
    return variant
