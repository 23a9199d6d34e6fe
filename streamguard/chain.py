"""The chain that all streams share: engines loaded and checked, every stage's settings in one place."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue

from streamguard.analysis import AnalysisSettings
from streamguard.config import Config
from streamguard.decision.calibration import (
    OperatingPoint,
    calibrated_rates,
    operating_point,
    operating_points,
    temperature,
)
from streamguard.delivery.events import EngineRef, EventContext, run_name
from streamguard.errors import ConfigError, EngineForeign
from streamguard.facts import Facts, facts_of
from streamguard.inference.backend import Backend, create_backend
from streamguard.inference.engines import Engine, carrier, load_engine
from streamguard.models import Models
from streamguard.vision.classifier import FaceInput
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.sampler import SamplerSettings


@dataclass(frozen=True, slots=True)
class Chain:
    """What all streams share."""

    models: Models
    engines: tuple[tuple[Engine, Backend], ...]
    settings: AnalysisSettings
    context: EventContext
    points: tuple[OperatingPoint, ...]

    def judged_by(self, point: OperatingPoint) -> AnalysisSettings:
        """The settings of a stream that is held against that operating point."""
        return replace(self.settings, point=point)

    def facts(self, config: Config) -> Facts:
        """What it takes to repeat a score, as of now."""
        return facts_of(config, self.settings, self.models.calibration, self.engines)


def assemble(config: Config, inbox: SimpleQueue[object]) -> Chain:
    """Engines loaded, checked and compiled; the settings of every stage in one place.

    Raises:
        EngineError: an engine, backend or variant that can't be used. ConfigError: an unknown operating point.
    """
    # The kernel gives every thread that can run the same share, and decoders are many: one model more keeps the models
    # from being the ones that wait.
    slots = usable_cores() + 1
    detector = load_engine(config.detector.engine)
    classifier = load_engine(config.classifier.engine)
    if detector.task != "detect":
        raise EngineForeign(f"engine '{detector.name}' (task '{detector.task}') is no detector. Name one that is.")
    face = FaceInput.of(classifier)
    sampling = calibrated_sampling(config.sampling, classifier)
    detect = create_backend(config.detector.backend, detector, config.detector.variant, inbox, slots=slots)
    classify = create_backend(config.classifier.backend, classifier, config.classifier.variant, inbox, slots=slots)
    point = operating_point(classifier.manifest, config.operating_point, carrier(classify.variant))
    models = Models(
        detector=detect,
        decoder=FaceDecoder.of(detector.manifest),
        pad=int(detector.manifest["preprocessing"]["pad"]),
        size=(detector.input.width, detector.input.height),
        classifier=classify,
        calibration=temperature(classifier.manifest, carrier(classify.variant)),
    )
    settings = AnalysisSettings(face, point, config.tracking, config.quality, sampling, config.decision)
    engines = ((detector, detect), (classifier, classify))
    context = EventContext(config.node, run_name(time.time()), point.name, point.threshold, engine_refs(engines))
    points = operating_points(classifier.manifest, carrier(classify.variant))
    return Chain(models, engines, settings, context, points)


def calibrated_sampling(settings: SamplerSettings, classifier: Engine) -> SamplerSettings:
    """What is set, inside the rates that the classifier was calibrated at.

    Raises:
        ConfigError: there is nothing inside.
    """
    rates = calibrated_rates(classifier.manifest)
    try:
        return settings.within(*rates)
    except ValueError as error:
        calibrated = f"engine '{classifier.name}' is calibrated for {rates.lowest:g} to {rates.highest:g} a second"
        raise ConfigError(f"'sampling' can't be followed: {error}; {calibrated}.") from None


def engine_refs(engines: Sequence[tuple[Engine, Backend]]) -> tuple[EngineRef, ...]:
    """The models as events name them, as they run now."""
    return tuple(EngineRef(engine.name, engine.sha256, backend.variant) for engine, backend in engines)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))
