"""Raw logits to calibrated ones, and thresholds of the statistic, on the calibration part alone.

The rule, fixed before any clip and the made stream were scored: the threshold of an operating point is the larger of

- the highest value that the statistic reached on a real talking face of the calibration people, plus a margin, and
- the quantile of the calibrated logits of the calibration part's real faces, as they are and degraded
  (each still counts as if its score stood still: then the statistic ends up at that score),

but at most :data:`HIGHEST`, beyond which clipped scores hardly carry the statistic. These are observations on a few
hundred faces and a handful of people. No guarantee follows from them, and the promise says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streamguard.errors import UsageError
from streamguard.frames import F32
from streamguard.lab.scoring import SHORTEST, Faces, Scorer, Track, peak
from streamguard.lab.statistics import platt

HIGHEST: Final = 3.5
# name -> (quantile of single real faces, margin over the highest real track)
POINTS: Final = {"default": (0.98, 0.5), "strict": (0.995, 1.0), "sensitive": (0.95, 0.0)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns raw logits into calibrated ones, and where the operating points lie."""

    temperature: float
    bias: float
    points: dict[str, dict[str, Any]]

    def calibrated(self, raw: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Calibrated logits, positive = manipulated."""
        return np.asarray(raw, np.float64) / self.temperature + self.bias


def calibrate(scorer: Scorer, faces: Faces, tracks: Sequence[Track]) -> Calibration:
    """Fit temperature and bias on ``faces``, thresholds on its real ones and on ``tracks`` (real people).

    Raises:
        UsageError: no track is long enough, or the net tells nothing apart.
    """
    raw = scorer(faces.pictures)
    temperature, bias = platt(raw, faces.label)
    scale = Calibration(temperature, bias, {})
    real = scale.calibrated(raw[faces.label == 0])
    peaks = peaks_of(scorer, scale, tracks)
    if not peaks.size:
        raise UsageError(f"no real track of the calibration part lasts {SHORTEST} s: no threshold can be set.")
    return Calibration(temperature, bias, operating_points(real, peaks))


def peaks_of(scorer: Scorer, scale: Calibration, tracks: Sequence[Track]) -> npt.NDArray[np.float64]:
    """The highest statistic of each track of :data:`~streamguard.lab.scoring.SHORTEST` seconds and more."""
    long = [track for track in tracks if float(track.pts[-1] - track.pts[0]) >= SHORTEST]
    return np.array([peak(track.pts, _scored(scorer, scale, track)) for track in long])


def _scored(scorer: Scorer, scale: Calibration, track: Track) -> F32:
    return scale.calibrated(scorer(track.pictures)).astype(np.float32)


def operating_points(real: npt.NDArray[np.float64], peaks: npt.NDArray[np.float64]) -> dict[str, dict[str, Any]]:
    """Name -> threshold (logit) and promise, by the rule above."""
    points: dict[str, dict[str, Any]] = {}
    for name, (quantile, margin) in POINTS.items():
        wanted = max(float(peaks.max()) + margin, float(np.quantile(np.clip(real, -4, 4), quantile)))
        threshold = round(min(HIGHEST, wanted), 3)
        faces, tracks = int((real >= threshold).sum()), int((peaks >= threshold).sum())
        promise = (
            f"Observed, not guaranteed: {faces} of {real.size} single real faces (as supplied and degraded) and "
            f"{tracks} of {peaks.size} real talking tracks of the calibration part reach it. "
            "Few people; real streams differ."
        )
        points[name] = {"threshold": threshold, "promise": promise}
    return points
