"""What is evaluated: each variant of an engine through its serving backend, or the net of a training run.

A subject takes serving crops and gives raw logits; what scale they are on is its own, or fitted to the
calibration part where it has none (a run that was not exported, a baseline).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streamguard.decision.calibration import Temperature, operating_point, temperature
from streamguard.errors import UsageError
from streamguard.frames import F32, U8
from streamguard.inference.backend import Backend, create_backend, run
from streamguard.inference.engines import Engine, carrier
from streamguard.lab.augment import Crop
from streamguard.lab.model import logits
from streamguard.lab.scoring import Scorer
from streamguard.lab.statistics import platt
from streamguard.lab.train import trained
from streamguard.vision.classifier import FaceInput

F64 = npt.NDArray[np.float64]
REFERENCE: Final = "fp32"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """``score``: (N, S, S, 3) uint8 RGB of ``crop`` -> (N,) raw logits. ``threshold``: `default` of single scores."""

    name: str
    crop: Crop
    score: Scorer
    scale: Temperature | None = None
    threshold: float | None = None

    def calibrated(self, raw: npt.ArrayLike) -> F64:
        """Calibrated logits; as they are where nothing is known of their scale."""
        scale = self.scale or Temperature()
        return np.asarray(raw, np.float64) / scale.temperature + scale.bias


class EngineScorer:
    """Raw logits by a variant of an engine, one crop at a time, as in service. The backend stays open."""

    def __init__(self, engine: Engine, backend: str, variant: str) -> None:
        self._done: SimpleQueue[Any] = SimpleQueue()
        self.backend: Backend = create_backend(backend, engine, variant, self._done, slots=1)

    def __call__(self, pictures: U8) -> F32:
        """(N, S, S, 3) uint8 RGB -> (N,) float32."""
        if not len(pictures):
            return np.zeros(0, np.float32)
        return np.asarray(run(self.backend, self._done, pictures).reshape(len(pictures), -1)[:, 0], np.float32)


def engine_subjects(engine: Engine, backend: str, wanted: Sequence[str] = ()) -> list[Subject]:
    """The ``wanted`` variants, or all that the backend can run of this engine, the reference in front.

    Raises:
        EngineError: not a classifier of faces, or a variant that the backend does not offer.
    """
    face = FaceInput.of(engine)
    reference = EngineScorer(engine, backend, REFERENCE)
    names = wanted or (REFERENCE, *(name for name in reference.backend.variants if name != REFERENCE))
    found = []
    for name in names:
        scorer = reference if name == REFERENCE else EngineScorer(engine, backend, name)
        stored = carrier(name)
        threshold = operating_point(engine.manifest, "default", stored).threshold
        scale = temperature(engine.manifest, stored)
        found.append(Subject(name, Crop(face.size, face.margin), scorer, scale, threshold))
    return found


def run_subject(folder: Path, name: str = "run") -> Subject:
    """The averaged net of a training run, in torch.

    Raises:
        InputMissing: nothing was trained there.
    """
    net, config, _ = trained(folder)
    return Subject(name, Crop(config.size, config.margin), lambda pictures: logits(net, pictures).numpy())


def fitted(raw: npt.ArrayLike, labels: npt.ArrayLike) -> Temperature | None:
    """The scale of raw logits on a calibration part; None where they rank real above fake, so that none fits."""
    try:
        return Temperature(*platt(raw, labels))
    except UsageError:
        return None


def crops_of(subjects: Iterable[Subject]) -> list[Crop]:
    """The different crops that subjects take, in order."""
    return list(dict.fromkeys(subject.crop for subject in subjects))
