"""ONNX models timed in a process of their own, which has nothing loaded but OpenVINO.

OpenVINO (2026.4) writes beyond its memory now and then while it compiles; glibc's checks (``malloc.check=3``) find it
with one small net and nothing else. In a process that compiles a model once a trial, and trains between, that ends in
an abort after some twenty trials. A process for each timing has no heap worth spoiling, and is asked again if it dies.

    python -m streamguard.lab.search.timing net.onnx 128 reference.onnx 176 30
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import openvino

from streamguard.errors import InputUnreadable

WARM: Final = 5
ROUNDS: Final = 30
TRIES: Final = 3
LIMIT: Final = 600.0  # seconds that a process may take
Clock = Callable[[], float]
Run = Callable[[], Any]


class Model(NamedTuple):
    """An ONNX file's bytes, and the side of its input, px."""

    onnx: bytes
    size: int


class Timed(NamedTuple):
    """``ratio``: how much longer a model takes than the reference. ``reference_ms``: the reference's milliseconds a
    face, least disturbed."""

    ratio: float
    reference_ms: float


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


def timed(net: Model, reference: Model, rounds: int = ROUNDS) -> Timed:
    """One face through each, on one thread of the CPU, fp32, in a process of their own.

    Raises:
        InputUnreadable: the process failed :data:`TRIES` times, by its last words, or hangs.
    """
    with TemporaryDirectory() as folder:
        words: list[str] = []
        for name, model in (("net", net), ("reference", reference)):
            file = Path(folder) / f"{name}.onnx"
            file.write_bytes(model.onnx)
            words += [str(file), str(model.size)]
        command = [sys.executable, "-m", __name__, *words, str(rounds)]
        for _ in range(TRIES):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            except subprocess.TimeoutExpired as error:
                raise InputUnreadable(f"a model of {net.size} px could not be timed within {LIMIT:g} s.") from error
            if done.returncode == 0:
                return Timed(*json.loads(done.stdout))
    last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    raise InputUnreadable(f"a model could not be timed: its process ended with {done.returncode}, and said: {last}.")


def compiled(model: Model) -> Run:
    """One face through ``model``, compiled for one thread of the CPU, fp32."""
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(model.onnx), "CPU", settings).create_infer_request()
    face = np.zeros((1, 3, model.size, model.size), np.float32)
    return lambda: request.infer([face])


def main(net: str, net_size: str, reference: str, reference_size: str, rounds: str) -> None:
    """Write :class:`Timed` of two files to stdout as JSON, and end at once: OpenVINO may break as it is taken down."""
    run = compiled(Model(Path(net).read_bytes(), int(net_size)))
    beside = compiled(Model(Path(reference).read_bytes(), int(reference_size)))
    found = Timed(ratio(run, beside, int(rounds)), least(beside, int(rounds)))
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
