"""``streamguard engines build``: measure an engine on this machine, and keep what suits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamguard.inference.choices import ChoiceCache, choice_key, choose
from streamguard.inference.engines import Engine
from streamguard.inference.measure import Progress, measure_apart
from streamguard.inference.processor import processor


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found: milliseconds a picture by variant, which one is taken, and why. ``kept``: the file of it."""

    engine: str
    sha256: str
    backend: str
    library: str | None
    milliseconds: Mapping[str, float]
    variant: str
    reason: str
    kept: Path | None

    @property
    def line(self) -> str:
        """For people."""
        times = ", ".join(f"{variant} {ms:.2f}" for variant, ms in self.milliseconds.items())
        return f"{self.engine} on {self.backend}: {self.variant} ({times} ms a picture), {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """One engine of ``engines build --json``."""
        return {
            "name": self.engine,
            "sha256": self.sha256,
            "processor": processor(),
            "backend": self.backend,
            "library": self.library,
            "milliseconds": dict(self.milliseconds),
            "variant": self.variant,
            "reason": self.reason,
            "kept": None if self.kept is None else str(self.kept),
        }


def tune(engine: Engine, backend: str, progress: Progress, choices: ChoiceCache | None = None) -> Tuned:
    """Measure in a child process; for OpenVINO keep the choice. For TensorRT the plans are built and kept on the way.

    Raises:
        EngineError: the backend is not known, can't be used here, or can't carry the engine.
    """
    milliseconds = measure_apart(engine, backend, progress)
    first = next(iter(milliseconds))
    if backend != "openvino":
        # ONNX Runtime runs fp32 alone. On a GPU the order is fixed: fp16 keeps the thresholds of fp32.
        reason = "the backend's own choice" + ("; its plans are kept" if backend.startswith("tensorrt") else "")
        return Tuned(engine.name, engine.sha256, backend, None, milliseconds, first, reason, None)
    from streamguard.inference.openvino import library, usual_order

    milliseconds = {variant: milliseconds[variant] for variant in usual_order(engine)}  # whatever was kept before
    choice = choose(engine, choice_key(engine, backend, library()), milliseconds)
    kept = (choices or ChoiceCache()).keep(choice)
    return Tuned(engine.name, engine.sha256, backend, library(), milliseconds, choice.variant, choice.reason, kept)
