"""The leak of frames of one video, on made videos whose label is a coin's.

A still is filmed by a hand-held camera (:func:`streamguard.lab.minutes.film`); whether the film is called real or fake
is drawn. There is nothing to learn in it but which film a frame is of: whatever a net scores above one half when frames
of one film lie on both sides is memory, and it is gone when films are kept whole.
"""

from __future__ import annotations

import numpy as np

from streamguard.errors import UsageError
from streamguard.lab.augment import Crop
from streamguard.lab.data import STILLS, FaceStore
from streamguard.lab.ledger import Arrays
from streamguard.lab.minutes import RATE, film

FRAMES = 8  # of a film


def films(store: FaceStore, count: int, size: int, seed: int) -> Arrays:
    """``count`` films of as many real faces of the part ``fit``: arrays of :class:`~streamguard.lab.pictures.Pictures`.

    Raises:
        UsageError: the store has fewer real faces.
    """
    rng = np.random.default_rng(seed)
    known = [(source, int(row)) for source in STILLS for row in store.find(source, "fit", 0)]
    if len(known) < count:
        raise UsageError(f"{count} films need as many real faces; '{store.path}' has {len(known)} to film.")
    coins = rng.permutation(np.arange(count) % 2)  # as many heads as tails
    pictures, labels, groups = [], [], []
    for number, place in enumerate(rng.permutation(len(known))[:count]):
        source, row = known[place]
        drawn = np.random.default_rng([seed, number])
        _, crops = film(store.read(source, row), drawn, Crop(size), FRAMES / RATE)
        pictures.append(crops)
        labels += [int(coins[number])] * len(crops)
        groups += [f"{source}/{row}"] * len(crops)
    return {"pictures": np.concatenate(pictures), "label": np.array(labels, np.uint8), "group": np.array(groups, "U64")}
