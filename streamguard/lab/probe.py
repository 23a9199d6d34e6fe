"""Does quality alone tell the label? A logistic regression on crude features of what leaves the training chain.

If it does, a network can learn that instead of forgery. 0.5 is what a clean chain gives.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamguard.frames import F32, U8
from streamguard.lab.batches import Batches, Mixture
from streamguard.lab.data import FaceStore
from streamguard.lab.statistics import auc
from streamguard.pixels import sharpness

BATCHES: Final = 48


def quality_features(rgb: U8) -> F32:
    """(16,) float32: sharpness, blockiness, colour moments and detail at three scales of one picture."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    means, deviations = rgb.reshape(-1, 3).mean(0), rgb.reshape(-1, 3).std(0)
    detail = [float(np.log1p(np.square(grey - cv2.GaussianBlur(grey, (0, 0), s)).mean())) for s in (0.7, 1.5, 3.0)]
    blocks = [float(steps[k::8].mean() / (steps.mean() + 1e-3)) for k in (0, 3, 7)]
    saturation = float(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1].mean())
    clipped = float((grey < 2).mean()), float((grey > 253).mean())
    values = (np.log1p(sharpness(rgb)), *means, *deviations, *detail, *blocks, saturation, *clipped)
    return np.array(values, np.float32)


def probe(store: FaceStore, mixture: Mixture, batches: int = BATCHES) -> dict[str, float]:
    """AUC of the probe on the supplied half and on the pairs of held-out batches: ``supplied``, ``pairs``.

    The first two thirds of ``batches`` fit it, the last third measure it.
    """
    made = [Batches(store, mixture, batches)[step] for step in range(batches)]
    pairs = 2 * round(mixture.batch * mixture.pairs / 2)  # the pairs come first in a batch
    found: dict[str, float] = {}
    for name, rows in (("pairs", slice(0, pairs)), ("supplied", slice(pairs, None))):
        features = [
            np.stack([quality_features(p) for p in pictures[rows]]) for pictures, _ in made if len(pictures[rows])
        ]
        labels = [values[rows] for pictures, values in made if len(pictures[rows])]
        cut = 2 * len(features) // 3
        if not cut:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        model.fit(np.concatenate(features[:cut]), np.concatenate(labels[:cut]))
        score = model.decision_function(np.concatenate(features[cut:]))
        found[name] = auc(score, np.concatenate(labels[cut:]))
    return found
