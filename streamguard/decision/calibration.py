"""What the numbers of an engine mean: its calibrated logit and its operating points, from its manifest.

A network's raw output is not a probability. Temperature scaling (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, arXiv 1706.04599), with a bias as in Platt's method, is fitted for each variant of an engine,
because quantisation shifts the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamguard.errors import ConfigError, EngineForeign

_LEAST_RISE: Final = 0.25  # logits; less is what any track does by itself


@dataclass(frozen=True, slots=True)
class Temperature:
    """Raw logits to calibrated ones: ``raw / temperature + bias``."""

    temperature: float = 1.0
    bias: float = 0.0

    def calibrated(self, raw: float) -> float:
        """The calibrated logit, positive = manipulated."""
        return raw / self.temperature + self.bias


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold of the statistic (a logit), and what it promises, in words.

    ``rise``: how far above its own earlier level a track is flagged (logits); None if only the threshold counts.
    """

    name: str
    threshold: float
    promise: str
    rise: float | None = None


def temperature(manifest: Mapping[str, Any], variant: str) -> Temperature:
    """The calibration of a variant: ``manifest["variants"][variant]["calibration"]``.

    Raises:
        EngineForeign: it is missing, not finite, or the temperature is not above 0.
    """
    engine = manifest.get("name", "?")
    try:
        found = manifest["variants"][variant]["calibration"]
        scale, bias = float(found["temperature"]), float(found["bias"])
    except (KeyError, TypeError, ValueError) as error:
        raise EngineForeign(
            f"Engine '{engine}' has no calibration for its variant '{variant}'. "
            'Expected "calibration": {"temperature": number, "bias": number} in its manifest.'
        ) from error
    if not (math.isfinite(scale) and scale > 0 and math.isfinite(bias)):
        raise EngineForeign(
            f"Engine '{engine}', variant '{variant}', is calibrated with temperature {scale} and bias {bias}. "
            "Expected a finite temperature above 0 and a finite bias."
        )
    return Temperature(scale, bias)


BY_HAND: Final = "by hand"
"""The operating point of a threshold that somebody set: no engine may have one of that name."""

LOWEST, HIGHEST = -3.9, 3.9
"""Logits between which a threshold may be set by hand: evidence is clipped to +-4."""


def by_hand(threshold: float, like: OperatingPoint) -> OperatingPoint:
    """A threshold (a logit) that somebody set. Its rise keeps the proportion that ``like`` has: both ways to be flagged
    become as much harder, or easier.

    Raises:
        ValueError: the threshold is not finite, or no evidence could reach it.

    >>> by_hand(1.0, OperatingPoint("default", 2.0, "...", rise=0.8)).rise
    0.4
    """
    if not LOWEST <= threshold <= HIGHEST:
        raise ValueError(f"a threshold of {threshold}; expected {LOWEST:g} to {HIGHEST:g}")
    rise = like.rise
    if rise is not None and like.threshold > 0:
        rise = max(_LEAST_RISE, rise * threshold / like.threshold)
    return OperatingPoint(BY_HAND, threshold, "Set by hand. It promises nothing.", rise)


def operating_points(manifest: Mapping[str, Any], variant: str | None = None) -> tuple[OperatingPoint, ...]:
    """All operating points of an engine, or of a variant that was measured on its own, in the manifest's order.

    Raises:
        EngineForeign: one of them is not what :func:`operating_point` takes.
    """
    return tuple(operating_point(manifest, name, variant) for name in _points(manifest, variant))


def operating_point(manifest: Mapping[str, Any], name: str, variant: str | None = None) -> OperatingPoint:
    """The operating point ``name`` of an engine: ``manifest["operating_points"][name]``.

    A variant that was measured on its own has its own, ``manifest["variants"][variant]["operating_points"]``.

    Raises:
        ConfigError: the engine has no operating point of that name.
        EngineForeign: its threshold is not a finite number, its rise not one above 0, or it promises nothing.
    """
    engine = manifest.get("name", "?")
    points = _points(manifest, variant)
    if name not in points:
        known = ", ".join(f"'{known}'" for known in points) or "none"
        raise ConfigError(f"Engine '{engine}' has no operating point '{name}'. It has: {known}.")
    try:
        threshold, promise = float(points[name]["threshold"]), points[name]["promise"]
        rise = None if points[name].get("rise") is None else float(points[name]["rise"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineForeign(
            f"Operating point '{name}' of engine '{engine}' is {points[name]!r}. Expected a threshold and a promise."
        ) from error
    if not math.isfinite(threshold) or not isinstance(promise, str) or not promise:
        raise EngineForeign(
            f"Operating point '{name}' of engine '{engine}' has threshold {threshold} and promise {promise!r}. "
            "Expected a finite logit and a sentence."
        )
    if rise is not None and not (math.isfinite(rise) and rise > 0):
        raise EngineForeign(
            f"Operating point '{name}' of engine '{engine}' has rise {rise}. Expected a finite logit above 0, or none."
        )
    return OperatingPoint(name, threshold, promise, rise)


def _points(manifest: Mapping[str, Any], variant: str | None) -> Mapping[str, Any]:
    of_variant = manifest.get("variants", {}).get(variant, {}).get("operating_points")
    found: Mapping[str, Any] = of_variant or manifest.get("operating_points") or {}
    return found


class CalibratedRates(NamedTuple):
    """Scores a second and track between which operating points hold."""

    lowest: float
    highest: float


def calibrated_rates(manifest: Mapping[str, Any]) -> CalibratedRates:
    """The rates that an engine was calibrated at: ``manifest["rate"]``.

    Raises:
        EngineForeign: one is missing, no number above 0, or the lowest is above the highest.
    """
    try:
        found = manifest["rate"]
        rates = CalibratedRates(float(found["lowest_hz"]), float(found["highest_hz"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_rates(manifest) from error
    if not 0 < rates.lowest <= rates.highest < math.inf:
        raise _no_rates(manifest)
    return rates


def _no_rates(manifest: Mapping[str, Any]) -> EngineForeign:
    return EngineForeign(
        f"Engine '{manifest.get('name', '?')}' has \"rate\": {manifest.get('rate')!r}. "
        'Expected {"lowest_hz": number above 0, "highest_hz": the same or more} in its manifest.'
    )
