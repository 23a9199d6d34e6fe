"""The chain that every training picture passes, real or fake: resizing, light, optics, compression, crop.

A network shown real pictures of one sharpness and fakes of another learns sharpness. So quality is drawn
here, anew for every picture and widely enough to cover what streams carry: soft pictures enlarged, sharp
ones reduced, denoised, sharpened in the camera, compressed once or twice. The draws reach far but lean
towards good quality: where nothing of a forgery is left, there is nothing to learn but doubt. Both partners
of a forged pair share one :class:`Chain`: same seed, same parameters, same noise.

The last step is :func:`streamguard.pixels.crop`, the preprocessing that serving uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np

from streamguard.errors import InputUnreadable
from streamguard.frames import U8, Box, Matrix, Picture
from streamguard.pixels import crop, picture_of, picture_of_rgb, rgb_of

SMALLEST_FACE: Final = 72.0  # pixels of the longer side of the box, after the chain's first resizing
LARGEST_FACE: Final = 300.0
_UP: Final = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_DOWN: Final = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_PRESETS: Final = ("ultrafast", "superfast", "veryfast", "faster")
_EXPOSURE: Final = 0.14  # standard deviation of a twin's gain, natural logarithm: twice that of `lab.minutes`
_MATRICES: Final[tuple[Matrix, ...]] = ("bt601", "bt709")


@dataclass(frozen=True, slots=True)
class Crop:
    """What the net sees: ``size`` pixels square, ``margin`` as in the engine's manifest."""

    size: int = 176
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Chain:
    """One drawn chain. Nothing in it depends on the content of a picture, only on seed and size."""

    seed: int

    def apply(self, rgb: U8, box: Box, target: Crop) -> U8:
        """(H, W, 3) uint8 RGB with a face at ``box`` -> (size, size, 3) uint8 RGB, degraded and cropped."""
        rng = np.random.default_rng(self.seed)
        rgb, box = self._degraded(rgb, box, rng)
        picture = picture_of_rgb(rgb, matrix=_MATRICES[rng.integers(2)])
        return crop(picture, _as_a_detector(box, rng), target.size, target.margin)

    def twice(self, rgb: U8, box: Box, target: Crop) -> tuple[U8, U8]:
        """As :meth:`apply`, and the same degraded picture as one more program would store it: once more through a mild
        codec, with the box that its detector finds there, and in the light of another moment: a camera's exposure
        wavers and clips. None of that is a trace of a forgery."""
        rng, again = np.random.default_rng(self.seed), np.random.default_rng((self.seed, 1))
        degraded, box = self._degraded(rgb, box, rng)
        picture = picture_of_rgb(degraded, matrix=_MATRICES[rng.integers(2)])
        box = _as_a_detector(box, rng)
        first = crop(picture, box, target.size, target.margin)
        stored = picture_of_rgb(_stored(_exposed(degraded, again), again), matrix=_MATRICES[again.integers(2)])
        return first, crop(stored, _as_a_detector(box, again, 0.015), target.size, target.margin)

    @staticmethod
    def _degraded(rgb: U8, box: Box, rng: np.random.Generator) -> tuple[U8, Box]:
        rgb, box = surroundings(rgb, box, float(rng.uniform(0.2, 0.4)))
        if rng.random() < 0.5:
            rgb, box = mirrored(rgb, box)
        rgb, box = _resized(rgb, box, rng)
        rgb = _optics(_light(rgb, rng), rng)
        rgb = _compressed(rgb, rng)
        if rng.random() < 0.15:
            factor = float(np.exp(rng.uniform(np.log(0.7), np.log(1.5))))
            rgb, box = _scaled(rgb, box, factor, rng)
        if rng.random() < 0.2:
            rgb = _compressed(rgb, rng)
        return rgb, box


def plain(rgb: U8, box: Box, target: Crop) -> U8:
    """The crop as serving makes it, with nothing added."""
    return crop(picture_of_rgb(rgb), box, target.size, target.margin)


def surroundings(rgb: U8, box: Box, reach: float) -> tuple[U8, Box]:
    """The face with ``reach`` times its longer side round it, cut on even pixels: what lies farther costs only time."""
    height, width = rgb.shape[:2]
    margin = reach * max(box.width, box.height)
    x, y = (2 * (int(max(0.0, v - margin)) // 2) for v in (box.x1, box.y1))
    cut = rgb[y : int(min(height, box.y2 + margin)), x : int(min(width, box.x2 + margin))]
    return np.ascontiguousarray(cut), Box(box.x1 - x, box.y1 - y, box.x2 - x, box.y2 - y)


def mirrored(rgb: U8, box: Box) -> tuple[U8, Box]:
    """Left and right exchanged."""
    width = rgb.shape[1]
    return np.ascontiguousarray(rgb[:, ::-1]), Box(width - box.x2, box.y1, width - box.x1, box.y2)


def softened(rgb: U8, longest: float, rng: np.random.Generator) -> U8:
    """The same picture with the detail of one in which a face of ``longest`` pixels had 80 to 220 of them."""
    factor = float(np.exp(rng.uniform(np.log(80), np.log(220)))) / longest
    if factor >= 0.95:
        return rgb
    height, width = rgb.shape[:2]
    small, _ = _scaled(rgb, Box(0, 0, width, height), factor, rng)
    return np.asarray(cv2.resize(small, (width, height), interpolation=_UP[rng.integers(len(_UP))]), np.uint8)


def jpeg(rgb: U8, quality: int) -> U8:
    """There and back, 4:2:0."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def h264(frames: list[U8], crf: int, preset: str = "veryfast") -> U8:
    """The last of ``frames`` (equal even sizes, uint8 RGB) after x264: predicted from those before it."""
    return rgb_of(filmed(frames, crf, preset=preset)[-1])


def filmed(frames: list[U8], crf: int, *, preset: str = "veryfast", rate: int = 25) -> list[Picture]:
    """All of ``frames`` (equal even sizes, uint8 RGB) after x264 at ``rate`` a second.

    Raises:
        InputUnreadable: the encoder lost frames.
    """
    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, rate)
    encoder.options = {"crf": str(crf), "preset": preset, "bf": "0", "threads": "1", "rc-lookahead": "0"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded: list[Picture] = []
    for number, rgb in enumerate(frames):
        picture = picture_of_rgb(rgb)
        planes = np.concatenate([plane.ravel() for plane in (picture.y, picture.u, picture.v)])
        frame = av.VideoFrame.from_ndarray(planes.reshape(height * 3 // 2, width), format="yuv420p")
        frame.pts = number
        for packet in encoder.encode(frame):
            decoded += map(picture_of, decoder.decode(packet))
    for packet in encoder.encode(None):
        decoded += map(picture_of, decoder.decode(packet))
    decoded += map(picture_of, decoder.decode(None))
    if len(decoded) != len(frames):
        raise InputUnreadable(f"x264 gave {len(decoded)} pictures for {len(frames)} of {width}x{height} at crf {crf}.")
    return decoded


def _scaled(rgb: U8, box: Box, factor: float, rng: np.random.Generator) -> tuple[U8, Box]:
    height, width = rgb.shape[:2]
    kinds = _UP if factor > 1 else _DOWN
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    fx, fy = size[0] / width, size[1] / height
    scaled = cv2.resize(rgb, size, interpolation=kinds[rng.integers(len(kinds))])
    return np.asarray(scaled, np.uint8), Box(box.x1 * fx, box.y1 * fy, box.x2 * fx, box.y2 * fy)


def _resized(rgb: U8, box: Box, rng: np.random.Generator) -> tuple[U8, Box]:
    """To a face of 72 to 300 pixels; in a quarter of the cases by way of a smaller picture: enlarged softness."""
    longest = max(box.width, box.height)
    wanted = float(np.exp(rng.uniform(np.log(SMALLEST_FACE), np.log(LARGEST_FACE))))
    twice, between = rng.random() < 0.25, float(rng.uniform(0.45, 0.95))
    factor = min(2.5, wanted / longest)
    if twice:
        rgb, box = _scaled(rgb, box, min(1.0, factor * between), rng)
        factor /= min(1.0, factor * between)
    return _scaled(rgb, box, factor, rng)


def _light(rgb: U8, rng: np.random.Generator) -> U8:
    """Gamma, contrast, brightness, saturation, warmth: one table a channel, and a mix with grey."""
    level = np.arange(256, dtype=np.float32) / 255
    if rng.random() < 0.4:
        level = level ** float(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.5:
        level = (level - 0.5) * (1 + rng.uniform(-0.2, 0.2)) + 0.5 + rng.uniform(-0.12, 0.12)
    warmth = rng.uniform(-0.08, 0.08) if rng.random() < 0.25 else 0.0
    table = np.stack([level * (1 + warmth), level, level * (1 - warmth)], axis=-1) * 255
    rgb = np.asarray(cv2.LUT(rgb, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]), np.uint8)
    draw, share = rng.random(), float(rng.uniform(0.5, 1.4))
    if draw < 0.33:
        grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        share = 0.0 if draw < 0.03 else share
        rgb = np.asarray(cv2.addWeighted(rgb, share, grey, 1 - share, 0), np.uint8)
    return rgb


def _optics(rgb: U8, rng: np.random.Generator) -> U8:
    """Blur, a camera's denoising and sharpening, then sensor noise; each now and then."""
    draw, strength = rng.random(), float(rng.random())
    if draw < 0.14:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.4 + 1.2 * strength**2), np.uint8)
    elif draw < 0.18:
        kernel = np.zeros((7, 7), np.float32)
        length = 3 + round(4 * strength)
        cv2.line(kernel, (3 - length // 2, 3), (3 + length // 2, 3), 1.0)
        turn = cv2.getRotationMatrix2D((3, 3), float(rng.uniform(0, 180)), 1.0)
        kernel = np.asarray(cv2.warpAffine(kernel, turn, (7, 7)), np.float32)
        rgb = np.asarray(cv2.filter2D(rgb, -1, kernel / max(float(kernel.sum()), 1e-6)), np.uint8)
    elif draw < 0.23:
        rgb = np.asarray(cv2.bilateralFilter(rgb, 5, 10 + 40 * strength, 3), np.uint8)
    elif draw < 0.26:
        rgb = np.asarray(cv2.medianBlur(rgb, 3), np.uint8)
    if rng.random() < 0.15:
        soft, amount = cv2.GaussianBlur(rgb, (0, 0), 1.2), float(rng.uniform(0.2, 1.0))
        rgb = np.asarray(cv2.addWeighted(rgb, 1 + amount, soft, -amount, 0), np.uint8)
    if rng.random() < 0.25:
        sigma, grey = float(np.exp(rng.uniform(np.log(1), np.log(9)))), rng.random() < 0.5
        noise = rng.standard_normal((*rgb.shape[:2], 1 if grey else 3), np.float32) * np.float32(sigma)
        rgb = np.asarray(np.clip(np.rint(rgb + noise), 0, 255), np.uint8)
    return rgb


def _compressed(rgb: U8, rng: np.random.Generator) -> U8:
    """JPEG 95 to 30 (45 %), H.264 at CRF 18 to 40 (30 %), the coarser the rarer; or as it is."""
    draw, coarse = rng.random(), float(rng.random()) ** 2
    preset, moves = _PRESETS[rng.integers(len(_PRESETS))], rng.integers(-3, 4, (2, 2))
    if draw < 0.45:
        return jpeg(rgb, round(95 - 65 * coarse))
    if draw > 0.75:
        return rgb
    even = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]
    frames = [_shifted(even, int(dx), int(dy)) for dx, dy in moves]
    return h264([*frames, np.ascontiguousarray(even)], round(18 + 22 * coarse), preset)


def _shifted(rgb: U8, dx: int, dy: int) -> U8:
    """Moved by whole pixels, the border repeated: the frame before, as a camera in the hand gives it."""
    height, width = rgb.shape[:2]
    padded = cv2.copyMakeBorder(rgb, 4, 4, 4, 4, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(padded[4 + dy : 4 + dy + height, 4 + dx : 4 + dx + width], np.uint8)


def _exposed(rgb: U8, rng: np.random.Generator) -> U8:
    """The picture with another gain, like one at another moment; what passes the white is lost."""
    gain = np.float32(np.exp(rng.normal(0, _EXPOSURE)))
    return np.asarray(np.clip(np.rint(rgb * gain), 0, 255), np.uint8)


def _stored(rgb: U8, rng: np.random.Generator) -> U8:
    """JPEG 80 to 97, or H.264 at CRF 14 to 24: what costs a file its size and nobody notices."""
    if rng.random() < 0.5:
        return jpeg(rgb, int(rng.integers(80, 98)))
    even = np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
    return h264([even], int(rng.integers(14, 25)), _PRESETS[rng.integers(len(_PRESETS))])


def _as_a_detector(box: Box, rng: np.random.Generator, reach: float = 0.08) -> Box:
    """The box moved and scaled by up to ``reach``: as boxes of another detector, or of the next frame, are."""
    dx, dy = rng.uniform(-reach, reach, 2)
    grow = 1 + rng.uniform(-reach, reach)
    cx, cy = box.centre[0] + dx * box.width, box.centre[1] + dy * box.height
    return Box(
        cx - box.width * grow / 2, cy - box.height * grow / 2, cx + box.width * grow / 2, cy + box.height * grow / 2
    )
