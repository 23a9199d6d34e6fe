"""Raw logits to calibrated ones, and operating points of the statistic, on the calibration part alone.

Two floors come first, from data that the minutes are no part of:

- the highest value on a real talking face of the calibration people, plus a margin, for the level and for the rise
  (:class:`~streamguard.decision.statistics.Rise`);
- for the level, the quantile of the calibrated logits of the calibration part's real faces, as they are and degraded
  (each counts as if its score stood still), up to :data:`HIGHEST`, beyond which clipped scores hardly carry the
  statistic.

Then split conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005;
Papadopoulos et al., ECML 2002): the unit is one minute of one person, its number the most by which the statistic passes
the floors in it, the level one or the rise the other. Of ``n`` such minutes in ascending order, the
``ceil((n + 1) (1 - alpha))``-th is passed by a fresh exchangeable minute with probability ``alpha`` at most, whatever
the scores are distributed like: by so much both floors are raised. It is one statistic, as in serving
(:func:`~streamguard.decision.passage.lifted`), so nothing is lost to two that share an error. Each minute is scored at
an ordinary and at nearly the lowest rate that serving allows; the higher value counts. A point whose rank lies beyond
``n`` is not made.

The rule was fixed before any clip and the made stream were scored. The minutes are simulated
(:mod:`streamguard.lab.minutes`): people in them do not speak or turn. No guarantee for real streams follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streamguard.decision.statistics import SPREAD
from streamguard.errors import UsageError
from streamguard.frames import F32
from streamguard.lab.scoring import SHORTEST, Faces, Scorer, Track, peak
from streamguard.lab.statistics import platt

HIGHEST: Final = 3.5
LEAST_RISE: Final = 0.25  # a net that says the same of everything has no rise to speak of
Logits = tuple[F32, npt.NDArray[np.float64]]  # times of scores, and the calibrated logits
SLOWER: Final = 2  # every second score of a simulated minute: the lowest rate that serving allows, nearly


class Rule(NamedTuple):
    """``alpha``: share of fresh simulated minutes that may be flagged; ``quantile`` of single real faces; ``margin``
    over the highest level of a real track, ``step`` over its highest rise, in spreads."""

    alpha: float
    quantile: float
    margin: float
    step: float


POINTS: Final = {
    "default": Rule(0.01, 0.98, 0.5, 1.0),
    "strict": Rule(0.001, 0.995, 1.0, 2.0),
    "sensitive": Rule(0.05, 0.95, 0.0, 0.0),
}


class Maxima(NamedTuple):
    """The highest level and the highest rise of each minute or track, (N,) each."""

    level: npt.NDArray[np.float64]
    rise: npt.NDArray[np.float64]

    def flagged(self, threshold: float, rise: float) -> int:
        """How many of them an operating point flags."""
        return int(((self.level >= threshold) | (self.rise >= rise)).sum())


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns raw logits into calibrated ones, and where the operating points lie."""

    temperature: float
    bias: float
    points: dict[str, dict[str, Any]]

    def calibrated(self, raw: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Calibrated logits, positive = manipulated."""
        return np.asarray(raw, np.float64) / self.temperature + self.bias


def calibrate(scorer: Scorer, faces: Faces, tracks: Sequence[Track], filmed: Sequence[tuple[F32, F32]]) -> Calibration:
    """Fit temperature and bias on ``faces``; operating points on its real ones, on ``tracks`` and on ``filmed``.

    ``tracks`` are of real talking people, ``filmed`` the times and raw logits of simulated minutes.

    Raises:
        UsageError: no track is long enough, there are too few minutes, or the net tells nothing apart.
    """
    raw = scorer(faces.pictures)
    temperature, bias = platt(raw, faces.label)
    scale = Calibration(temperature, bias, {})
    real = scale.calibrated(raw[faces.label == 0])
    talking = maxima_of(scored(scorer, scale, tracks))
    if not talking.level.size:
        raise UsageError(f"no real track of the calibration part lasts {SHORTEST} s: no threshold can be set.")
    return Calibration(temperature, bias, operating_points(real, talking, minutes_of(scale, filmed)))


def scored(scorer: Scorer, scale: Calibration, tracks: Sequence[Track]) -> list[Logits]:
    """Times and calibrated logits of each track of :data:`~streamguard.lab.scoring.SHORTEST` seconds and more."""
    long = [track for track in tracks if float(track.pts[-1] - track.pts[0]) >= SHORTEST]
    return [(track.pts, scale.calibrated(scorer(track.pictures))) for track in long]


def maxima_of(tracks: Sequence[Logits]) -> Maxima:
    """The maxima of each track, by its times and calibrated logits."""
    return _maxima([peak(pts, logits) for pts, logits in tracks])


def minutes_of(scale: Calibration, filmed: Sequence[tuple[F32, F32]]) -> Maxima:
    """The maxima of each simulated minute; of its two rates of scores the higher one."""
    found = []
    for pts, raw in filmed:
        logits = scale.calibrated(raw)
        rates = [peak(pts[::every], logits[::every]) for every in (1, SLOWER)]
        found.append((max(level for level, _ in rates), max(rise for _, rise in rates)))
    return _maxima(found)


def _maxima(found: Sequence[tuple[float, float]]) -> Maxima:
    level, rise = np.array(found, np.float64).reshape(-1, 2).T
    return Maxima(level, rise)


def conformal(values: npt.NDArray[np.float64], alpha: float) -> float | None:
    """The ``ceil((n + 1) (1 - alpha))``-th smallest value; None if ``n`` is too small for this ``alpha``.

    >>> conformal(np.arange(1.0, 100.0), 0.01), conformal(np.arange(1.0, 99.0), 0.01)
    (99.0, None)
    """
    rank = math.ceil(round((values.size + 1) * (1 - alpha), 9))
    return None if rank > values.size else float(np.sort(values)[rank - 1])


def operating_points(real: npt.NDArray[np.float64], talking: Maxima, minutes: Maxima) -> dict[str, dict[str, Any]]:
    """Name -> threshold and rise (logits) and promise, by the rule above; a point without enough minutes is left out.

    Raises:
        UsageError: not even ``default`` has enough minutes.
    """
    points: dict[str, dict[str, Any]] = {}
    count = minutes.level.size
    for name, rule in POINTS.items():
        faces = float(np.quantile(np.clip(real, -4, 4), rule.quantile))
        level = min(HIGHEST, max(faces, float(talking.level.max()) + rule.margin))
        rise = max(LEAST_RISE, float(talking.rise.max()) + rule.step * SPREAD)
        passed = conformal(np.maximum(minutes.level - level, minutes.rise - rise), rule.alpha)
        if passed is None:
            continue
        threshold, risen = (_upwards(floor + max(0.0, passed)) for floor in (level, rise))
        flagged, made = (found.flagged(threshold, risen) for found in (talking, minutes))
        promise = (
            f"At most {rule.alpha:.1%} of fresh simulated minutes of real faces are flagged, if they are like those it "
            f"was set on (split conformal; {made} of {count} flagged, a person each; stills before a moving camera). "
            f"Of {talking.level.size} real talking tracks of the calibration part {flagged} are flagged. Few people; "
            "real streams differ, and nothing is guaranteed for them."
        )
        points[name] = {"threshold": threshold, "rise": risen, "promise": promise}
    if "default" not in points:
        raise UsageError(f"{count} simulated minutes are too few for the operating point 'default'. 99 will do.")
    return points


def _upwards(logit: float) -> float:
    """Three digits, and not less than it was: what did not pass the one does not pass the other."""
    return math.ceil(round(1000 * logit, 6)) / 1000
