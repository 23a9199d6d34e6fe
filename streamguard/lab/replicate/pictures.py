"""The pictures of the paper's two cases, out of a face store or a face file.

Case 1: whole pictures. Case 2: the face that the shipped detector (YOLOv8n) finds in them, as serving crops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from streamguard.errors import UsageError
from streamguard.frames import F32, U8, Box, Face, Picture
from streamguard.lab.augment import Crop, plain
from streamguard.lab.data import FaceStore, Sample
from streamguard.lab.facefile import FaceFile
from streamguard.lab.ledger import Arrays
from streamguard.lab.pictures import Pictures
from streamguard.pixels import picture_of_rgb

Search = Callable[[Picture], list[Face]]


class Case(NamedTuple):
    """``of``: the pictures. ``framing`` (N, 6): where the face lies in the whole picture. ``missed``: pictures, by
    label, in which the detector found no face."""

    of: Pictures
    framing: F32
    missed: tuple[int, int]

    @classmethod
    def held(cls, arrays: Arrays) -> Case:
        """What :meth:`arrays` stored."""
        of = Pictures(arrays["pictures"], arrays["label"], arrays["group"])
        real, fake = (int(value) for value in arrays["missed"])
        return cls(of, arrays["framing"], (real, fake))

    def arrays(self) -> Arrays:
        """To be stored."""
        return {**self.of._asdict(), "framing": self.framing, "missed": np.array(self.missed)}


def whole(store: FaceStore, source: str, count: int | None, size: int, seed: int) -> Case:
    """Case 1: pictures of ``source`` as they are, reduced to ``size``."""
    return _case(_drawn(store, source, count, seed), lambda sample: _reduced(sample.rgb, size), source)


def found(store: FaceStore, source: str, count: int | None, size: int, seed: int, search: Search) -> Case:
    """Case 2: the most confident face that ``search`` finds in each, ``size`` pixels square."""

    def face(sample: Sample) -> U8 | None:
        faces = search(picture_of_rgb(sample.rgb))
        return plain(sample.rgb, faces[0].box, Crop(size)) if faces else None

    return _case(_drawn(store, source, count, seed), face, source)


def filed(path: Path, count: int | None, size: int, seed: int) -> Case:
    """Case 2 on a face file of `lab faces` (Celeb-DF v2, say): its faces, grouped by the people in them."""
    file = FaceFile(path)
    label, boxes = file.column("label"), file.column("face")
    group = np.array([str(name) or str(video) for name, video in
                      zip(file.column("identity"), file.column("video"), strict=True)])  # fmt: skip
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.sort(rng.permutation(np.flatnonzero(label == value))[:count]) for value in (0, 1)])
    pictures = [plain(rgb, Box(*map(float, boxes[row])), Crop(size))
                for row, rgb in zip(rows, file.pictures(list(rows)), strict=True)]  # fmt: skip
    if len(set(label[rows])) < 2:
        raise UsageError(f"face file '{path}' holds no real or no fake face.")
    of = Pictures(np.stack(pictures), label[rows].astype(np.uint8), group[rows])
    return Case(of, np.zeros((len(rows), 6), np.float32), (0, 0))


def _drawn(store: FaceStore, source: str, count: int | None, seed: int) -> Iterator[tuple[Sample, str]]:
    """``count`` pictures a label of the part ``fit``, all if it is None, with their groups."""
    rng = np.random.default_rng(seed)
    for label in (0, 1):
        for row in rng.permutation(store.find(source, "fit", label))[:count]:
            yield store.read(source, int(row)), store.rows(source)["group"][row].decode()


def _case(samples: Iterator[tuple[Sample, str]], make: Callable[[Sample], U8 | None], source: str) -> Case:
    pictures: list[U8] = []
    rows: list[tuple[int, str, F32]] = []
    missed = [0, 0]
    for sample, group in samples:
        picture = make(sample)
        if picture is None:
            missed[sample.label] += 1
            continue
        pictures.append(picture)
        rows.append((sample.label, group, framing_of(sample.rgb.shape, sample.box)))
    if len({label for label, _, _ in rows}) < 2:
        raise UsageError(f"'{source}' gave no real or no fake picture (without a face: {missed}). Use more pictures.")
    labels, groups, framing = zip(*rows, strict=True)
    of = Pictures(np.stack(pictures), np.array(labels, np.uint8), np.array(groups, dtype="U128"))
    return Case(of, np.stack(framing), (missed[0], missed[1]))


def _reduced(rgb: U8, size: int) -> U8:
    return np.asarray(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def framing_of(shape: tuple[int, ...], box: Box) -> F32:
    """(6,): centre, width and height of the face in shares of the picture, its shape, and the picture's. Not a
    pixel."""
    height, width = shape[:2]
    x, y = box.centre
    told = (x / width, y / height, box.width / width, box.height / height, box.width / max(box.height, 1.0),
            width / height)  # fmt: skip
    return np.array(told, np.float32)


def framing_scores(train: F32, label: npt.NDArray[Any], test: F32) -> npt.NDArray[np.float64]:
    """What framing alone says of ``test``: a logistic regression on the six numbers, their squares and products."""

    model = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(),
                          LogisticRegression(C=1.0, max_iter=2000))  # fmt: skip
    model.fit(train, label)
    return np.asarray(model.decision_function(test), np.float64)
