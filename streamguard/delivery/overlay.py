"""What is drawn into the picture that people see: a frame round each face, its verdict, and the stream's in a corner.

Everything is drawn on a :class:`Canvas`, planes that belong to the overlay alone: decoded planes may be the decoder's
reference frames and the detector's input at once. Colours are computed for the picture's own matrix and range, and the
words say what the colours say.

No data is never ``clear``: a picture that stands still, or that the analysis has not kept up with, says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import cv2
import numpy as np

from streamguard.frames import U8, Matrix, State, StreamSnapshot, Track
from streamguard.pixels import yuv_of

NOT_ANALYSED: Final = "not analysed"
NO_FRAMES: Final = "no frames"
BEHIND: Final = 2.0
"""Seconds of stream time by which the analysis may be behind the picture; further back it says nothing of it."""

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_CAPITAL: Final = 22.0  # pixels; height of that font's capitals at scale 1
_LONGEST: Final = 60  # characters of a label
_LARGER: Final = 1.25  # the stream's verdict, in the lower left: cameras write their clocks along the upper edge


class Look(NamedTuple):
    """Colours of a state, RGB: the ground that words stand on, and the words."""

    ground: tuple[int, int, int]
    ink: tuple[int, int, int]


LOOKS: Final = {
    State.FLAGGED: Look((200, 20, 20), (255, 255, 255)),
    State.CLEAR: Look((0, 110, 50), (255, 255, 255)),
    State.INCONCLUSIVE: Look((250, 190, 40), (0, 0, 0)),
}
"""Red, green and amber, each with words that stand out from it (contrast 4.5 and more, WCAG 2.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Planes to draw on, (H, W) and twice (H/2, W/2) uint8 with even sides, writable and nobody else's."""

    y: U8
    u: U8
    v: U8
    matrix: Matrix
    full_range: bool

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True, slots=True)
class Shown:
    """The picture that is drawn on: ``session`` and ``pts`` of its frame; ``still``: it is shown again, none came.

    ``scale``: pixels of the canvas for one of the frame.
    """

    session: int
    pts: float
    still: bool = False
    scale: float = 1.0


def draw(canvas: Canvas, shown: Shown, standing: StreamSnapshot | None) -> None:
    """Draw what the analysis says, moved to where the faces are in the picture by now."""
    state, reason = verdict(shown, standing)
    if standing is not None and _speaks_of(shown, standing):
        states, reasons = dict(standing.states), dict(standing.reasons)
        for track in standing.tracks:
            of = states.get(track.id, State.INCONCLUSIVE)
            _draw_track(canvas, shown, track, of, reasons.get(track.id))
    brush = _Brush(canvas, LOOKS[state])
    brush.label(said(state, reason), 0, canvas.height - brush.line_height(_LARGER), grow=_LARGER)


def verdict(shown: Shown, standing: StreamSnapshot | None) -> tuple[State, str | None]:
    """The stream's state as it may be said of that picture, and why where it is inconclusive."""
    silent = State.INCONCLUSIVE, NO_FRAMES if shown.still else NOT_ANALYSED
    if standing is None or standing.session != shown.session:
        return silent
    if standing.state is State.INCONCLUSIVE and (shown.still or _speaks_of(shown, standing)):
        return standing.state, standing.reason
    return (standing.state, standing.reason) if _speaks_of(shown, standing) else silent


def said(state: State, reason: str | None) -> str:
    """A state in words.

    >>> said(State.FLAGGED, None), said(State.INCONCLUSIVE, "too small")
    ('FLAGGED', 'inconclusive: too small')
    """
    word = state.value.upper() if state is State.FLAGGED else state.value
    return f"{word}: {reason}"[:_LONGEST] if reason else word


def _speaks_of(shown: Shown, standing: StreamSnapshot) -> bool:
    return not shown.still and standing.session == shown.session and shown.pts - standing.pts <= BEHIND


def _draw_track(canvas: Canvas, shown: Shown, track: Track, state: State, reason: str | None) -> None:
    brush = _Brush(canvas, LOOKS[state])
    left, top, right, bottom = (_even(side * shown.scale) for side in track.at(shown.pts))
    brush.frame(left, top, right, bottom)
    text = said(state, reason)
    height = brush.line_height()
    above = top - height
    brush.label(text, left, above if above >= 0 else max(0, top))


class _Brush:
    """Draws in the colours of one state. Positions in pixels of the canvas, even numbers; what lies outside is cut."""

    def __init__(self, canvas: Canvas, look: Look) -> None:
        self._canvas = canvas
        self._ground = yuv_of(look.ground, canvas.matrix, canvas.full_range)
        self._ink = yuv_of(look.ink, canvas.matrix, canvas.full_range)

    def frame(self, left: int, top: int, right: int, bottom: int) -> None:
        """A frame inside that rectangle."""
        thick = max(2, _even(self._canvas.height / 180))
        self._fill(left, top, right, top + thick)
        self._fill(left, bottom - thick, right, bottom)
        self._fill(left, top, left + thick, bottom)
        self._fill(right - thick, top, right, bottom)

    def line_height(self, grow: float = 1.0) -> int:
        """Pixels that a label is high: readable from 360 lines on, and no larger than need be."""
        return _even(max(18.0, self._canvas.height / 22) * grow)

    def label(self, text: str, left: int, top: int, grow: float = 1.0) -> None:
        """Words on their ground, moved inside the picture at the right."""
        height = self.line_height(grow)
        tile = _tile(text, height, self._ink[0], self._ground[0])
        left = max(0, min(left, _even(self._canvas.width - tile.shape[1])))
        target = self._canvas.y[top : top + height, left : left + tile.shape[1]]
        self._fill(left, top, left + tile.shape[1], top + height)
        target[:] = tile[: target.shape[0], : target.shape[1]]

    def _fill(self, left: int, top: int, right: int, bottom: int) -> None:
        left, top = max(0, left), max(0, top)
        right, bottom = max(left, right), max(top, bottom)
        y, u, v = self._ground
        self._canvas.y[top:bottom, left:right] = y
        self._canvas.u[top // 2 : bottom // 2, left // 2 : right // 2] = u
        self._canvas.v[top // 2 : bottom // 2, left // 2 : right // 2] = v


@lru_cache(maxsize=256)
def _tile(text: str, height: int, ink: int, ground: int) -> U8:
    """(height, W) uint8: the luma of words on their ground, W even. Not to be changed: it is shared."""
    scale = height * 0.5 / _CAPITAL
    thick = 1 if scale < 0.9 else 2
    (wide, _), _ = cv2.getTextSize(text, _FONT, scale, thick)
    margin = height // 4
    mask = np.zeros((height, _even(wide + 2 * margin + 1)), np.uint8)
    cv2.putText(mask, text, (margin, round(height * 0.75)), _FONT, scale, 255, thick, cv2.LINE_AA)
    return np.asarray(np.rint(ground + (ink - ground) * (mask / 255.0)), np.uint8)


def _even(value: float) -> int:
    return 2 * round(value / 2)
