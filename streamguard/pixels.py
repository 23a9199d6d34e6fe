"""Pixels: YUV planes to model input, the one preprocessing of training, calibration and serving.

Everything starts from a :class:`~streamguard.frames.Picture` (8-bit 4:2:0 planes). Video gives its decoded
planes without a copy; a still enters through :func:`picture_of_rgb`, so that a network never learns which
of the two it looks at. Only what a model needs is ever turned into RGB: the letterboxed detector input and
the face crops, never the whole frame.

Colours follow the frame's own tags (ITU-R BT.601, BT.709, BT.2020; limited or full range); an untagged
picture is BT.601 limited, as FFmpeg assumes.

Resampler ``halving``: means of 2x2 pixels while the target is at least twice smaller, then bilinear. It
has no aliasing to speak of and costs a tenth of OpenCV's general ``INTER_AREA``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import av
import av.video.reformatter as sws
import cv2
import numpy as np

from streamguard.errors import PictureSize
from streamguard.frames import F32, U8, Box, Matrix, Picture

RESAMPLER: Final = "halving"
SMALLEST: Final = 16
LARGEST: Final = 8192

# Luma weights (Kr, Kb) of ITU-R BT.601-7, BT.709-6 and BT.2020-2.
_WEIGHTS: Final[dict[Matrix, tuple[float, float]]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
_MATRIX_OF_TAG: Final[dict[int, Matrix]] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_SWS_OF_MATRIX: Final[dict[Matrix, int]] = {
    "bt601": sws.Colorspace.ITU601,
    "bt709": sws.Colorspace.ITU709,
    "bt2020": 9,  # SWS_CS_BT2020; PyAV has no name for it
}
_JPEG_RANGE: Final = 2
_PLANAR_420: Final = frozenset({"yuv420p", "yuvj420p"})


@cache
def _to_rgb_matrix(matrix: Matrix, full_range: bool) -> F32:
    """(3, 4) float32: RGB 0..255 from (Y, U, V, 1) 0..255."""
    kr, kb = _WEIGHTS[matrix]
    kg = 1 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    red, blue = 2 * (1 - kr) * chroma, 2 * (1 - kb) * chroma
    green_u, green_v = -blue * kb / kg, -red * kr / kg
    rows = np.array([[luma, 0, red], [luma, green_u, green_v], [luma, blue, 0]])
    offset = -rows @ np.array([black, 128.0, 128.0])
    return np.asarray(np.hstack((rows, offset[:, None])), np.float32)


@cache
def _from_rgb_matrix(matrix: Matrix, full_range: bool) -> F32:
    """(3, 4) float32: the inverse of :func:`_to_rgb_matrix`."""
    forward = _to_rgb_matrix(matrix, full_range).astype(np.float64)
    inverse = np.linalg.inv(forward[:, :3])
    return np.asarray(np.hstack((inverse, -inverse @ forward[:, 3:])), np.float32)


def check_size(width: int, height: int, what: str) -> None:
    """Refuse pictures that no face can be judged in, or that would exhaust memory.

    Raises:
        PictureSize: a side under 16 or over 8,192 pixels.
    """
    if min(width, height) < SMALLEST or max(width, height) > LARGEST:
        raise PictureSize(
            f"'{what}' is {width}x{height} pixels; sides of {SMALLEST} to {LARGEST} are worked on. Resize it."
        )


def picture_of(frame: av.VideoFrame) -> Picture:
    """The planes of a decoded frame: views where the format is 4:2:0, else one conversion.

    Colour matrix and range come from the frame's tags. RGB, grey and palette pictures go through
    :func:`picture_of_rgb`.
    """
    name = frame.format.name
    if frame.format.is_rgb or name.startswith(("gray", "pal", "mono", "ya")):
        return picture_of_rgb(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    matrix = _MATRIX_OF_TAG.get(int(frame.colorspace), "bt601")
    full_range = int(frame.color_range) == _JPEG_RANGE or name.startswith("yuvj")
    if name not in _PLANAR_420:
        colours = _SWS_OF_MATRIX[matrix]
        span = sws.ColorRange.JPEG if full_range else sws.ColorRange.MPEG
        frame = frame.reformat(
            format="yuv420p",
            src_colorspace=colours,
            dst_colorspace=colours,
            src_color_range=span,
            dst_color_range=span,
        )
    y, u, v = (_view(plane) for plane in frame.planes)
    return Picture(y, u, v, matrix, full_range)


def _view(plane: av.video.plane.VideoPlane) -> U8:
    lines: U8 = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    view = lines[:, : plane.width]
    view.flags.writeable = False
    return view


def picture_of_rgb(rgb: U8, *, matrix: Matrix = "bt601", full_range: bool = False) -> Picture:
    """A still, (H, W, 3) uint8 RGB, as 4:2:0 planes: chroma is the mean of 2x2 pixels.

    Sides of odd length gain a copy of their last row or column in the chroma planes, as codecs do.
    """
    yuv = cv2.transform(rgb, _from_rgb_matrix(matrix, full_range))
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        even = cv2.copyMakeBorder(yuv, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    else:
        even = yuv
    half = (even.shape[1] // 2, even.shape[0] // 2)
    small = cv2.resize(even, half, interpolation=cv2.INTER_AREA)
    y = np.ascontiguousarray(yuv[..., 0])
    u, v = (np.ascontiguousarray(small[..., channel]) for channel in (1, 2))
    return Picture(y, u, v, matrix, full_range)


def yuv_of(colour: tuple[int, int, int], matrix: Matrix, full_range: bool) -> tuple[int, int, int]:
    """An RGB colour, 0 to 255 each, as the (Y, U, V) of pictures with that matrix and range.

    >>> yuv_of((255, 255, 255), "bt709", full_range=False)
    (235, 128, 128)
    """
    y, u, v = np.clip(np.rint(_from_rgb_matrix(matrix, full_range) @ np.array([*colour, 1.0])), 0, 255)
    return int(y), int(u), int(v)


def rgb_of(picture: Picture) -> U8:
    """The whole picture as (H, W, 3) uint8 RGB, chroma upsampled bilinearly. For stills and tests."""
    return _resampled(picture, picture.width, picture.height)


def shrink(plane: U8, width: int, height: int) -> U8:
    """Resample one plane (or an interleaved picture) with the ``halving`` resampler."""
    while plane.shape[1] >= 2 * width and plane.shape[0] >= 2 * height:
        halved = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = np.asarray(cv2.resize(plane, halved, interpolation=cv2.INTER_AREA), np.uint8)
    if plane.shape[:2] != (height, width):
        plane = np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return plane


def _resampled(picture: Picture, width: int, height: int) -> U8:
    planes = [shrink(plane, width, height) for plane in (picture.y, picture.u, picture.v)]
    matrix = _to_rgb_matrix(picture.matrix, picture.full_range)
    return np.asarray(cv2.transform(cv2.merge(planes), matrix), np.uint8)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture lies in a letterboxed input: ``input = picture * scale + offset``."""

    scale: float
    left: int
    top: int

    def to_picture(self, boxes: F32) -> F32:
        """(N, 4) x1, y1, x2, y2 in input pixels -> picture pixels."""
        shift = np.array([self.left, self.top, self.left, self.top], np.float32)
        return np.asarray((boxes - shift) / self.scale, np.float32)


def letterbox(picture: Picture, width: int, height: int, pad: int = 114) -> tuple[U8, Letterbox]:
    """The whole picture inside (height, width, 3) uint8 RGB, aspect kept, the rest grey ``pad``."""
    scale = min(width / picture.width, height / picture.height)
    w, h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left, top = (width - w) // 2, (height - h) // 2
    canvas = np.full((height, width, 3), pad, np.uint8)
    canvas[top : top + h, left : left + w] = _resampled(picture, w, h)
    return canvas, Letterbox(scale, left, top)


def crop(picture: Picture, box: Box, size: int, margin: float) -> U8:
    """The square round ``box``, side = longer side of the box x (1 + 2 ``margin``), as (size, size, 3) uint8 RGB.

    The square is moved inside the picture where it fits; what still lies outside is mirrored, since a flat
    border would be a trace of its own. It starts on even pixels, so that luma and chroma cover the same area.
    """
    x, y, side = crop_square(picture.width, picture.height, box, margin)
    luma = _window(picture.y, x, y, side)
    chroma = [_window(plane, x // 2, y // 2, side // 2) for plane in (picture.u, picture.v)]
    matrix = _to_rgb_matrix(picture.matrix, picture.full_range)
    planes = [shrink(plane, size, size) for plane in (luma, *chroma)]
    return np.asarray(cv2.transform(cv2.merge(planes), matrix), np.uint8)


def crop_square(width: int, height: int, box: Box, margin: float) -> tuple[int, int, int]:
    """(x, y, side) of the square that :func:`crop` takes, even numbers, possibly beyond the picture."""
    side = 2 * max(2, round(max(box.width, box.height) * (1 + 2 * margin) / 2))
    cx, cy = box.centre
    return _inside(cx, side, width), _inside(cy, side, height), side


def _inside(centre: float, side: int, length: int) -> int:
    start = 2 * round((centre - side / 2) / 2)
    if side > length:
        return 2 * round((length - side) / 4)
    return max(0, min(start, (length - side) // 2 * 2))


def _window(plane: U8, x: int, y: int, side: int) -> U8:
    height, width = plane.shape
    left, top = max(0, -x), max(0, -y)
    right, bottom = max(0, x + side - width), max(0, y + side - height)
    inner = plane[max(0, y) : y + side, max(0, x) : x + side]
    if left or top or right or bottom:
        inner = np.asarray(cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REFLECT_101), np.uint8)
    return inner


def sharpness(rgb: U8) -> float:
    """Variance of the Laplacian of the luma of an RGB crop, a common measure of focus."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F, ksize=3).var())
