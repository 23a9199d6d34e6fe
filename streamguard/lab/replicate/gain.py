"""Whether a cue adds to the classifier: a cue earns its place in the decision only if it does so on the unseen rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamguard.lab.statistics import auc, interval

F64 = npt.NDArray[np.float64]
KEPT_FROM: Final = 0.0  # the interval's lower end has to lie above


class Both:
    """Base and cue by one logistic regression, fitted where neither is measured."""

    def __init__(self, base: F64, cue: F64, label: npt.ArrayLike) -> None:
        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
        self._model.fit(np.stack((base, cue), axis=1), np.asarray(label))

    def __call__(self, base: F64, cue: F64) -> F64:
        """(N,) logits."""
        return np.asarray(self._model.decision_function(np.stack((base, cue), axis=1)), np.float64)


def gain(base: F64, both: F64, label: npt.ArrayLike, group: npt.ArrayLike) -> dict[str, Any]:
    """AUC of both less AUC of the base, ``value``, ``low`` and ``high`` (95 %, the same groups drawn for both), and
    whether the cue ``earns`` its place."""
    rows = np.arange(len(base), dtype=np.float64)  # the bootstrap draws rows: each resample sees both scores

    def apart(drawn: F64, truth: F64) -> float:
        at = drawn.astype(np.intp)
        return auc(both[at], truth) - auc(base[at], truth)

    low, high = interval(apart, rows, label, group)
    value = apart(rows, np.asarray(label, np.float64))
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4), "earns": low > KEPT_FROM}
