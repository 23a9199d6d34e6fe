"""The H.264 encoder of a broadcast: quick rather than small, and key frames when they are asked for.

Preset ultrafast with tune zerolatency: a picture goes in and its packet comes out, 2 ms for 1280x720 on one core, where
the usual preset takes ten times that. Constrained Baseline, since every browser's WebRTC decodes it (RFC 7742).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.video.frame import PictureType

from streamguard.delivery.overlay import Canvas
from streamguard.frames import U8, Matrix, Picture

TICKS: Final = 90_000
"""A second, in the clock of RTP video (RFC 6184) and of all packets here."""

_BASE: Final = Fraction(1, TICKS)
_USUAL_RATE: Final = 30  # pictures a second that the rate control reckons with; timestamps say when each is shown
_HD: Final = 1280 * 720
_HD_BITS: Final = 4_000_000  # a second, at most, for that many pixels
_LEAST_BITS: Final = 1_000_000
# Codes of ITU-T H.273, as FFmpeg has them.
_COLOURS: Final[dict[Matrix, int]] = {"bt601": 6, "bt709": 1, "bt2020": 9}
_LIMITED, _FULL = 1, 2


@dataclass(frozen=True, slots=True)
class PictureForm:
    """What can't change within one encoder: even sides in pixels, colours."""

    width: int
    height: int
    matrix: Matrix
    full_range: bool

    @classmethod
    def of(cls, picture: Picture) -> PictureForm:
        """The form that a picture is encoded in: 4:2:0 has even sides, an odd row or column is left out."""
        return cls(picture.width // 2 * 2, picture.height // 2 * 2, picture.matrix, picture.full_range)


class Sheet:
    """An encoder's picture of its own, and the canvas to draw on it. The source's planes are only read."""

    def __init__(self, picture: Picture, form: PictureForm) -> None:
        self.frame = av.VideoFrame(form.width, form.height, "yuv420p")
        planes = [_writable(plane) for plane in self.frame.planes]
        for plane, source in zip(planes, (picture.y, picture.u, picture.v), strict=True):
            np.copyto(plane, source[: plane.shape[0], : plane.shape[1]])
        y, u, v = planes
        self.canvas = Canvas(y, u, v, form.matrix, form.full_range)
        self.size = form.width, form.height


def _writable(plane: av.video.plane.VideoPlane) -> U8:
    lines: U8 = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


class Encoder:
    """Encodes sheets of one form."""

    def __init__(self, form: PictureForm) -> None:
        self.form = form
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = form.width, form.height, "yuv420p"
        context.time_base, context.framerate = _BASE, Fraction(_USUAL_RATE)
        context.colorspace = _COLOURS[form.matrix]
        context.color_range = _FULL if form.full_range else _LIMITED
        context.gop_size = 2**30  # none by itself
        context.max_b_frames = 0
        context.thread_count = 1
        most = most_bits(form.width, form.height)
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "crf": "23",
            "maxrate": str(most),
            "bufsize": str(most // 2),
        }
        self._context = context

    def encode(self, sheet: Sheet, pts: float, *, key: bool) -> av.Packet[Any] | None:
        """The packet of a sheet that is shown at ``pts`` (seconds, later than the one before).

        Raises:
            av.FFmpegError: the encoder failed.
        """
        sheet.frame.pts, sheet.frame.time_base = round(pts * TICKS), _BASE
        sheet.frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(sheet.frame)
        return packets[0] if packets else None


def most_bits(width: int, height: int) -> int:
    """Bits a second that a picture of that size may take.

    >>> most_bits(1280, 720), most_bits(320, 240)
    (4000000, 1000000)
    """
    return max(_LEAST_BITS, _HD_BITS * width * height // _HD)


class KeyFrames:
    """When to make a key frame: asked for by a viewer, or due; never two within ``apart`` seconds.

    >>> keys = KeyFrames(apart=0.3)
    >>> keys.now(0.0), keys.now(1.0)
    (True, False)
    >>> keys.want()
    >>> keys.now(1.1), keys.now(1.2)
    (True, False)
    """

    def __init__(self, apart: float = 0.3) -> None:
        self._apart = apart
        self._wanted = True
        self._last = -float("inf")

    def want(self) -> None:
        """Make one as soon as it may be."""
        self._wanted = True

    def now(self, pts: float, every: float = float("inf")) -> bool:
        """Whether the picture at ``pts`` is to be one; ``every``: the seconds after which one is due."""
        since = pts - self._last
        if not (self._wanted and since >= self._apart) and since < every - 1 / TICKS:
            return False
        self._wanted, self._last = False, pts
        return True

    def restart(self) -> None:
        """A new encoder: its first picture is one."""
        self._wanted, self._last = True, -float("inf")
