"""How long a picture takes in each precision of an engine, on this machine.

:func:`measure` does it where it is called; :func:`measure_apart` in a child process, where neither a crash of a library
nor what it leaves behind in memory reaches the caller.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Timer
from typing import Any, Final

import numpy as np

from streamguard.errors import EngineError
from streamguard.inference.backend import create_backend, run
from streamguard.inference.engines import Engine, load_engine

ROUNDS: Final = 12
WARM: Final = 2
"""Rounds that are not counted."""
PICTURES: Final = 10
"""Pictures a round and variant, at least."""

_PATIENCE: Final = 1800.0
"""Seconds: a plan for a GPU may have to be built for each variant."""

# A child of this kind imports nothing of the program that started it: `multiprocessing` would run a user's
# script a second time.
_CHILD: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from streamguard.inference.measure import main; sys.exit(main(sys.argv[2], sys.argv[3]))"
)

Progress = Callable[[str], None]


def _silent(text: str) -> None:
    return None


def measure(engine: Engine, backend: str, progress: Progress = _silent) -> dict[str, float]:
    """Milliseconds a picture of every variant, the backend's first choice in front.

    CPU time on one core; on a GPU wall time, in batches of the size that it prefers. Variants take turns, since a
    machine's speed drifts: A B C A B C ... The median counts.

    Raises:
        EngineError: no such backend here, or it can't carry the engine. BackendError: the device refused a batch.
    """
    inbox: SimpleQueue[Any] = SimpleQueue()
    first = create_backend(backend, engine, "auto", inbox, slots=1)
    contenders = {first.variant: first}
    try:
        for variant in first.variants:
            if variant not in contenders:
                progress(f"{engine.name} {variant}: loading")
                contenders[variant] = create_backend(backend, engine, variant, inbox, slots=1)
        batch = first.preferred_batch
        spec, count = engine.input, max(1, PICTURES // batch) * batch
        shape = (count, spec.height, spec.width, 3)
        pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        clock = time.process_time if batch == 1 else time.perf_counter
        times: dict[str, list[float]] = {variant: [] for variant in contenders}
        for turn in range(ROUNDS):
            progress(f"{engine.name}: round {turn + 1} of {ROUNDS}")
            for variant, contender in contenders.items():
                for start in range(0, count, batch):
                    begun = clock()
                    run(contender, inbox, pictures[start : start + batch])
                    if turn >= WARM:
                        times[variant].append(1000 * (clock() - begun) / batch)
    finally:
        for contender in contenders.values():
            contender.close()
    return {variant: round(statistics.median(values), 3) for variant, values in times.items()}


def measure_apart(engine: Engine, backend: str, progress: Progress = _silent) -> dict[str, float]:
    """The same in a child process; ``progress`` hears the child's words.

    Raises:
        EngineError: what :func:`measure` raises; the child crashed, or took half an hour.
    """
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(engine.folder), backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        watch = Timer(_PATIENCE, child.kill)
        watch.start()
        try:
            said = {}
            for line in child.stdout:
                said = json.loads(line)
                if "progress" in said:
                    progress(said["progress"])
            complaint = child.stderr.read().strip().splitlines() or ["no output"]
        finally:
            watch.cancel()
    if "refused" in said:
        raise EngineError(said["refused"])
    if "milliseconds" not in said:
        raise EngineError(
            f"measuring '{engine.name}' on {backend} ended with code {child.returncode}: {complaint[-1]}. "
            "Choose another backend."
        )
    return {variant: float(value) for variant, value in said["milliseconds"].items()}


def main(folder: str, backend: str) -> int:
    """The child: one JSON object a line on standard output."""

    def say(key: str, what: object) -> None:
        sys.stdout.write(json.dumps({key: what}) + "\n")
        sys.stdout.flush()

    try:
        say("milliseconds", measure(load_engine(folder), backend, lambda text: say("progress", text)))
    except EngineError as error:
        say("refused", str(error))
        return 2
    return 0
