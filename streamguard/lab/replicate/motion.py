"""Cues of the paper's related work that look at several pictures: recurrent nets over a track, and the rate of change.

Tracks are windows of :data:`LENGTH` consecutive crops of real talking people, each as it was and self-blended with one
set of parameters: the face is forged frame by frame, as a face swap is, so that its edge wavers with the landmarks.

* CNN + GRU and CNN + Bi-LSTM: a small net looks at each crop, a recurrent layer at what it says in turn.
* CNN, mean: the same small net without memory. What the recurrent ones are worth is the difference.
* Rate of change: how much successive crops differ, in the middle of the face, at its edge, and how evenly; a logistic
  regression on that. It never sees a face.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from streamguard.errors import PictureSize, UsageError
from streamguard.frames import F32, U8
from streamguard.ingest.forgery import SelfBlend
from streamguard.lab.augment import Crop, plain
from streamguard.lab.batches import MILLION
from streamguard.lab.course import Batch, Course, Trainee
from streamguard.lab.data import FaceStore, Part
from streamguard.lab.ledger import Arrays
from streamguard.lab.model import normalised

LENGTH: Final = 8  # crops of a window: 1.6 s at the store's rate
STEP: Final = 4  # crops between the starts of two windows
Memory = Literal["mean", "GRU", "Bi-LSTM"]
MEMORIES: Final[tuple[Memory, ...]] = ("mean", "GRU", "Bi-LSTM")


class Windows(NamedTuple):
    """``pictures`` (N, T, S, S, 3) uint8 RGB; ``label`` (N,) uint8, 1 = fake; ``group`` (N,): the person."""

    pictures: U8
    label: npt.NDArray[np.uint8]
    group: npt.NDArray[np.str_]


def windows(store: FaceStore, part: Part, size: int, seed: int) -> Arrays:
    """The windows of a part's talking people, each real and forged, as arrays of :class:`Windows`.

    Raises:
        UsageError: no track is long enough.
    """
    rng = np.random.default_rng(seed)
    pictures, labels, groups = [], [], []
    for group, rows in _runs(store, part):
        pair = _pair(store, rows, size, rng)
        if pair is None:
            continue
        for label, track in enumerate(pair):
            pictures.append(track)
            labels.append(label)
            groups.append(group)
    if not pictures:
        raise UsageError(f"'{store.path}' has no talking face of {LENGTH} successive crops in part '{part}'.")
    return {"pictures": np.stack(pictures), "label": np.array(labels, np.uint8), "group": np.array(groups, "U128")}


def _runs(store: FaceStore, part: Part) -> Iterator[tuple[str, list[int]]]:
    """Person and row numbers of each window: successive crops of one recording."""
    rows = store.rows("talking")
    run: list[int] = []
    for index in [*map(int, store.find("talking", part)), -1]:
        broken = index < 0 or (run and (rows["group"][index] != rows["group"][run[-1]]
                                        or rows["pts"][index] <= rows["pts"][run[-1]]))  # fmt: skip
        if broken:
            for start in range(0, len(run) - LENGTH + 1, STEP):
                yield rows["group"][run[0]].decode(), run[start : start + LENGTH]
            run = []
        run.append(index)


def _pair(store: FaceStore, rows: list[int], size: int, rng: np.random.Generator) -> tuple[U8, U8] | None:
    """(T, S, S, 3) real and forged; None if a face of them can't be."""
    forgery = SelfBlend.draw(rng)
    reals, fakes = [], []
    for row in rows:
        sample = store.read("talking", row)
        try:
            real, fake, _ = forgery.pair(sample.rgb, sample.landmarks)
        except PictureSize:
            return None
        reals.append(plain(real, sample.box, Crop(size)))
        fakes.append(plain(fake, sample.box, Crop(size)))
    return np.stack(reals), np.stack(fakes)


class Recurrent(nn.Module):
    """(N * T, 3, S, S) float32, windows one after the other, to (N, 1) logits."""

    def __init__(self, memory: Memory, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for wider in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels = wider
        self.look = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.memory: nn.GRU | nn.LSTM | None = None
        if memory == "GRU":
            self.memory = nn.GRU(channels, channels, batch_first=True)
        elif memory == "Bi-LSTM":
            self.memory = nn.LSTM(channels, channels // 2, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        seen = self.look(x).unflatten(0, (-1, LENGTH))
        if self.memory is not None:
            seen = self.memory(seen)[0]
        logits: torch.Tensor = self.classifier(seen.mean(1))
        return logits


class WindowBatches:
    """Batch number ``step``: ``batch`` windows, drawn anew, mirrored now and then."""

    def __init__(self, of: Windows, batch: int, seed: int) -> None:
        self.of, self.batch, self.seed = of, batch, seed

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed * MILLION + step) % 2**63)
        rows = rng.integers(len(self.of.label), size=self.batch)
        tracks = [self.of.pictures[row][:, :, ::-1] if rng.random() < 0.5 else self.of.pictures[row] for row in rows]
        return Batch(np.concatenate(tracks), self.of.label[rows].astype(np.float32))


def recurrent_scores(
    memory: Memory, train: Windows, test: Windows, steps: int, folder: Path
) -> npt.NDArray[np.float64]:
    """Logits of ``test`` by a net trained for ``steps`` of 16 windows."""
    torch.manual_seed(1)
    trainee = Trainee(Recurrent(memory), Course(steps, 1e-3, 0.01, warm_up=steps // 10, cosine=True, clip=5.0), folder,
                      max(1, steps // 10))  # fmt: skip
    trainee.follow(WindowBatches(train, 16, 1), steps)
    net = trainee.best
    with torch.no_grad():
        parts = [net(normalised(track))[0, 0] for track in test.pictures]
    return np.array([float(part) for part in parts])


def change(track: U8) -> F32:
    """(8,): of how much successive crops of (T, S, S, 3) differ: mean and spread over time, of the whole, of the
    middle, of the ring round it, and of ring less middle; in levels."""
    grey = track.astype(np.float32).mean(axis=-1)
    apart = np.abs(np.diff(grey, axis=0))
    side = grey.shape[1]
    middle = np.zeros((side, side), bool)
    middle[side // 4 : side - side // 4, side // 4 : side - side // 4] = True
    inside, outside = apart[:, middle].mean(1), apart[:, ~middle].mean(1)
    lines = (apart.mean((1, 2)), inside, outside, outside - inside)
    return np.array([value for line in lines for value in (line.mean(), line.std())], np.float32)


def change_scores(train: Windows, test: Windows) -> npt.NDArray[np.float64]:
    """What the rate of change says of ``test``."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    model.fit(np.stack([change(track) for track in train.pictures]), train.label)
    return np.asarray(model.decision_function(np.stack([change(track) for track in test.pictures])), np.float64)
