"""The facts of a run: what it takes to repeat any of its scores. They go into every ``scores.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from streamguard.analysis import AnalysisSettings
from streamguard.config import Config
from streamguard.decision.calibration import Temperature
from streamguard.inference.backend import Backend
from streamguard.inference.engines import Engine, carrier
from streamguard.pixels import RESAMPLER
from streamguard.version import __version__

Facts = Mapping[str, Any]


def facts_of(
    config: Config, settings: AnalysisSettings, calibration: Temperature, engines: Sequence[tuple[Engine, Backend]]
) -> Facts:
    """As JSON has it. ``sha256`` is an engine's identity, ``variant_sha256`` the file that carries its variant."""
    point = settings.point
    return {
        "streamguard": __version__,
        "node": config.node,
        "operating_point": asdict(point),
        "engines": [_engine(engine, backend) for engine, backend in engines],
        "preprocessing": {"size": settings.face.size, "margin": settings.face.margin, "resampler": RESAMPLER},
        "calibration": asdict(calibration),
        "decision": asdict(settings.decision),
    }


def _engine(engine: Engine, backend: Backend) -> Facts:
    variant = backend.variant  # of the backend that works now: `auto` may have changed it
    return {
        "name": engine.name,
        "version": engine.version,
        "task": engine.task,
        "sha256": engine.sha256,
        "variant": variant,
        "variant_sha256": engine.variants[carrier(variant)].sha256,
        "backend": backend.name,
    }
