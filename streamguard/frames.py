"""The vocabulary: what flows through the chain, as frozen dataclasses.

Units: positions in pixels of the decoded picture (x to the right, y down); ``pts`` in seconds of
stream time; ``captured_at`` in seconds since the Unix epoch, UTC; scores inside the chain are
calibrated logits, and :func:`sigmoid` turns them into what leaves it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

Matrix = Literal["bt601", "bt709", "bt2020"]
Clock = Literal["rtcp", "arrival", "file"]

COAST: Final = 0.5
"""Seconds for which a face is taken to move on as it did, once it is not found."""


class State(enum.StrEnum):
    """What StreamGuard says of a track, a segment, a file or a stream."""

    FLAGGED = "flagged"
    CLEAR = "clear"
    INCONCLUSIVE = "inconclusive"


def sigmoid(logit: float) -> float:
    """Logistic function, safe for any finite logit."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    e = math.exp(logit)
    return e / (1.0 + e)


class Box(NamedTuple):
    """Axis-aligned rectangle, pixels, ``x2``/``y2`` exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        w = min(self.x2, other.x2) - max(self.x1, other.x1)
        h = min(self.y2, other.y2) - max(self.y1, other.y1)
        if w <= 0 or h <= 0:
            return 0.0
        shared = w * h
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One 8-bit 4:2:0 planar picture.

    ``y`` is (H, W) uint8; ``u`` and ``v`` are (ceil(H/2), ceil(W/2)) uint8. The planes may be views of
    decoder memory (reference frames): they are read-only, and a view does not outlive its mailbox
    slot unless :meth:`copy` is taken.
    """

    y: U8
    u: U8
    v: U8
    matrix: Matrix = "bt601"
    full_range: bool = False

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    def copy(self) -> Picture:
        """The same picture in memory of its own."""
        return Picture(self.y.copy(), self.u.copy(), self.v.copy(), self.matrix, self.full_range)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture of one stream.

    ``session`` counts the connections of a stream from 1: stream time and tracks never cross it.
    ``damaged`` marks a picture the decoder repaired; it is counted and not scored. ``ticks`` is its timestamp as the
    container has it, in units of its stream's time base: by it a picture is found again in a clip.
    """

    stream: str
    session: int
    index: int
    pts: float
    captured_at: float
    clock: Clock
    picture: Picture
    damaged: bool = False
    ticks: int | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Whether a face can be judged. ``reason`` is None when it can, else why not."""

    size: float
    sharpness: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face: box in picture pixels, detector confidence 0..1."""

    box: Box
    confidence: float
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """One face followed over time in one session.

    ``updated``: when it was last detected; ``missed``: the seconds from then to the time that ``box`` is of.
    ``motion``: pixels a second, to the right and down.
    """

    id: int
    session: int
    box: Box
    confidence: float
    started: float
    updated: float
    missed: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)

    def at(self, pts: float) -> Box:
        """Where its face should be at ``pts``: a motion is believed in for :data:`COAST` seconds after a detection."""
        elapsed = min(max(pts - self.updated, -COAST), COAST) - min(self.missed, COAST)
        dx, dy = self.motion[0] * elapsed, self.motion[1] * elapsed
        return Box(self.box.x1 + dx, self.box.y1 + dy, self.box.x2 + dx, self.box.y2 + dy)


@dataclass(frozen=True, slots=True)
class Score:
    """What the classifier says of one face in one frame: a calibrated logit, positive = manipulated."""

    track: int
    pts: float
    logit: float


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One face as the classifier saw it: ``crop`` is (S, S, 3) uint8 RGB, ``logit`` calibrated."""

    track: int
    box: Box
    crop: U8
    logit: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A passage of one track with one state. ``started``/``ended`` in seconds of stream time.

    ``ended`` is None while the segment is open. ``mean`` and ``peak`` are logits of the statistic.
    """

    id: str
    stream: str
    session: int
    track: int
    started: float
    ended: float | None
    state: State
    reason: str | None
    mean: float
    peak: float
    frames: int


@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """What overlay, page and metrics read: immutable, replaced whole after each analysed frame.

    ``states`` and ``reasons`` by track; a reason stands where a track is inconclusive. ``overload``: what is done less
    of because the machine can't keep up, or None. ``latency``: seconds from the last scored frame's decoding to its
    scores; None before the first.
    """

    stream: str
    session: int
    pts: float
    state: State
    reason: str | None
    tracks: tuple[Track, ...] = ()
    states: tuple[tuple[int, State], ...] = ()
    overload: str | None = None
    latency: float | None = None
    reasons: tuple[tuple[int, str], ...] = ()
