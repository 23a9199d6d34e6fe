"""What a net costs: milliseconds a face on one core, by OpenVINO, told apart from what else the machine does.

A single timing on a shared machine is off by a factor. So a net is timed in turns with a reference whose cost does not
change, EfficientNet-Lite0 at 176 px: whatever slows the machine slows both, and the median of the ratios stays. The
reference's own time is taken once a search, at its least disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import openvino
from torch import nn

from streamguard.lab.export import export
from streamguard.lab.model import build

REFERENCE_SIZE: Final = 176
WARM: Final = 5
ROUNDS: Final = 30
Clock = Callable[[], float]
Run = Callable[[], Any]


def ratio(net: Run, reference: Run, rounds: int = ROUNDS, clock: Clock = time.perf_counter) -> float:
    """Median over ``rounds`` of how much longer ``net`` takes than ``reference``, each timed right after the other."""
    for _ in range(WARM):
        net()
        reference()
    found = []
    for _ in range(rounds):
        first = clock()
        net()
        between = clock()
        reference()
        found.append((between - first) / max(clock() - between, 1e-9))
    return float(np.median(found))


def least(run: Run, rounds: int = ROUNDS, clock: Clock = time.perf_counter) -> float:
    """Milliseconds of the least disturbed of ``rounds``."""
    for _ in range(WARM):
        run()
    found = []
    for _ in range(rounds):
        started = clock()
        run()
        found.append(clock() - started)
    return 1000 * min(found)


def runnable(net: nn.Module, size: int) -> Run:
    """One face through ``net`` as it would be served: exported, compiled for one thread of the CPU, fp32.

    Raises:
        UsageError: the net does not export.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(net, file, size)
        return compiled(file.read_bytes(), size)


def compiled(model: bytes, size: int) -> Run:
    """One face through an ONNX ``model``, compiled for one thread of the CPU, fp32."""
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    face = np.zeros((1, 3, size, size), np.float32)
    return lambda: request.infer([face])


class Stopwatch:
    """Times nets against the reference. ``reference_ms``: what it takes here; measured if not given."""

    def __init__(self, reference_ms: float | None = None, rounds: int = ROUNDS) -> None:
        self._reference = runnable(build(pretrained=False, size=REFERENCE_SIZE), REFERENCE_SIZE)
        self.rounds = rounds
        self.reference_ms = least(self._reference, rounds) if reference_ms is None else reference_ms

    def __call__(self, net: nn.Module, size: int) -> tuple[float, float]:
        """(ratio to the reference, milliseconds a face)."""
        found = ratio(runnable(net, size), self._reference, self.rounds)
        return found, found * self.reference_ms
