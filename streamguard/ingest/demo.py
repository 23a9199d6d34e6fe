"""The made stream: a hand-held camera films a photograph, and for eight seconds of each minute its face is forged.

``demo:?seed=1&duration=60&pace=1`` is made on the spot, encoded (H.264) and decoded like any file, and the same
seed gives the same bytes. It needs no camera, no network and no video of anybody: the photograph is NASA's
portrait of Eileen Collins, in the public domain, as scikit-image ships it (512 x 512, here as lossless WebP).

The forgery is one :class:`~streamguard.ingest.forgery.SelfBlend`, drawn with blend ratio 1 and made on the still,
so its parameters stay the same through its passage; camera path, noise and brightness know nothing of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final, TypedDict
from urllib.parse import parse_qsl

import av
import cv2
import numpy as np
import numpy.typing as npt

from streamguard.errors import SourceRefused
from streamguard.frames import U8, Frame, Picture
from streamguard.ingest.connection import Keeping, SourceOptions
from streamguard.ingest.container import FileConnection
from streamguard.ingest.forgery import SelfBlend
from streamguard.pixels import picture_of_rgb

FPS: Final = 25
WIDTH, HEIGHT = 960, 540
PASS: Final = 60.0  # seconds; one forged passage in each
FORGED: Final = 8.0  # seconds
_EARLIEST: Final = 10.0  # a viewer sees the untouched face first
_LATEST: Final = PASS - 8.0 - FORGED

# YuNet's landmarks on the photograph, in its pixels; see forgery.SelfBlend for the order.
LANDMARKS: Final = np.array(
    [[203.4, 103.6], [247.5, 104.4], [224.1, 127.7], [204.0, 143.1], [242.9, 143.7]], np.float32
)
_AIM: Final = np.array([235.0, 140.0])  # where the camera points, on average; pixels of the photograph
# Standard deviation of pan, tilt (pixels of the photograph), roll (radians), zoom and gain (natural logarithms).
_SHAKE: Final = np.array([7.0, 4.0, math.radians(2.0), 0.04, 0.05])
_SETTLE: Final = 1.5  # seconds; time constant of the camera's movement
_ENLARGED: Final = 2  # the photograph is enlarged well, once, so that each frame can be sampled cheaply
_NOISE_FIELDS: Final = 8
_NOISE_MARGIN: Final = 64


class Passage(TypedDict):
    """A passage of stream time, seconds, and whether the face in it is forged."""

    start: float
    end: float
    forged: bool


def truth(seed: int, duration: float) -> list[Passage]:
    """What is forged in ``demo:?seed=SEED&duration=DURATION``: passages that cover it without a gap."""
    passages: list[Passage] = []
    now = 0.0
    for take in range(math.ceil(duration / PASS)):
        start = take * PASS + _forged_from(seed, take)
        for end, forged in ((start, False), (start + FORGED, True), ((take + 1) * PASS, False)):
            end = min(round(end, 2), duration)
            if passages and passages[-1]["forged"] == forged and end > now:
                passages[-1]["end"] = now = end
            elif end > now:
                passages.append(Passage(start=now, end=end, forged=forged))
                now = end
    return passages


def _forged_from(seed: int, take: int) -> float:
    """Second of the pass at which its forged passage begins, on a frame."""
    drawn = np.random.default_rng([seed, 1, take]).uniform(_EARLIEST, _LATEST)
    return round(drawn * FPS) / FPS


@dataclass(frozen=True, slots=True)
class _Settings:
    seed: int = 1
    duration: float = PASS
    pace: bool = True


class DemoSource(Keeping):
    """The made stream as a source. ``pace=1``: in real time; ``pace=0``: as fast as frames are taken."""

    live = False

    def __init__(self, uri: str, *, name: str | None = None, options: SourceOptions | None = None) -> None:
        """Raises: SourceRefused: a key or a value in the query that is not known."""
        self.uri = uri
        self.name = name or "demo"
        self.settings = _parse(uri)
        self._options = options or SourceOptions()

    def open(self, session: int) -> DemoConnection:
        """Start the stream from its beginning."""
        return DemoConnection(self.settings, self.uri, stream=self.name, session=session, options=self._options)


class DemoConnection(FileConnection):
    """One showing: frames come when they are due, or at once."""

    def __init__(
        self,
        settings: _Settings,
        what: str,
        *,
        stream: str,
        session: int,
        options: SourceOptions,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._paced, self._monotonic, self._sleep = settings.pace, monotonic, sleep
        # The smallest probe: the header tells all, and every frame probed would be made ahead of its time.
        container = av.open(_Recording(settings), "r", format="nut", options={"probesize": "32"})
        super().__init__(container, what, stream=stream, session=session, options=options, rate=FPS)
        self.info = replace(self.info, duration=settings.duration)

    def __iter__(self) -> Iterator[Frame]:
        started = self._monotonic()
        for frame in super().__iter__():
            early = started + frame.pts - self._monotonic()
            if self._paced and early > 0:
                self._sleep(early)
            yield frame


class _Recording:
    """A file that is made while it is read: H.264 in NUT, a frame at a time."""

    def __init__(self, settings: _Settings) -> None:
        self._frames = round(settings.duration * FPS)
        self._made = 0
        self._film = _Film(settings.seed)
        self._bytes = bytearray()
        self._muxer = av.open(self, "w", format="nut", options={"flush_packets": "1", "fflags": "+bitexact"})
        crf = np.random.default_rng([settings.seed, 2]).integers(20, 28)
        self._video = self._muxer.add_stream(
            "libx264",
            rate=FPS,
            options={"preset": "superfast", "tune": "zerolatency", "threads": "1", "crf": str(crf), "g": "50"},
        )
        self._video.width, self._video.height, self._video.pix_fmt = WIDTH, HEIGHT, "yuv420p"

    def write(self, data: bytes) -> int:
        """What the muxer has to say."""
        self._bytes += data
        return len(data)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._bytes and self._made <= self._frames:
            self._make()
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        return taken

    def _make(self) -> None:
        if self._made == self._frames:
            self._muxer.mux(self._video.encode(None))
            self._muxer.close()
        else:
            frame = av.VideoFrame.from_ndarray(self._film.shoot(self._made), format="yuv420p")
            frame.pts = self._made
            self._muxer.mux(self._video.encode(frame))
        self._made += 1


class Hand:
    """A camera held by hand: what moves does so smoothly, about its mean, with the standard deviations ``shake``.

    Two first-order autoregressions in a row; the start is drawn from what they settle to.
    """

    def __init__(self, rng: np.random.Generator, shake: npt.NDArray[np.float64], fps: float) -> None:
        self._rng, self._shake = rng, shake
        self._keep = math.exp(-1 / (fps * _SETTLE))
        self._pushed, self._shaken = rng.standard_normal((2, shake.size))

    def move(self) -> npt.NDArray[np.float64]:
        """Where everything is a frame later, in the order and the units of ``shake``."""
        keep = self._keep
        self._pushed = keep * self._pushed + math.sqrt(1 - keep**2) * self._rng.standard_normal(self._shake.size)
        self._shaken = keep * self._shaken + (1 - keep) * self._pushed
        # The second stage of two equal ones settles to half the variance of the first.
        return np.asarray(self._shake * self._shaken * math.sqrt(2), np.float64)


class _Film:
    """Pictures of the photograph, one after the other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = np.random.default_rng([seed, 0])
        self._zoom = self._rng.uniform(1.9, 2.3)  # the face becomes 170 to 210 pixels wide
        self._hand = Hand(self._rng, _SHAKE, FPS)
        self._noise = self._draw_noise(self._rng.uniform(1.0, 3.0))
        self._real = _enlarged(photograph())
        self._take = -1
        self._fake = self._real
        self._forged = range(0)

    def shoot(self, index: int) -> U8:
        """Frame ``index``, asked for in order: (HEIGHT * 3 / 2, WIDTH) uint8, the planes of yuv420p in a column."""
        take = int(index / FPS / PASS)
        if take != self._take:
            self._prepare(take)
        picture = self._fake if index in self._forged else self._real
        matrix, gain = self._move()
        planes = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
        luma = planes[:HEIGHT]
        _warp(picture.y, matrix, luma)
        # The noise lies round 128, so that one weighted sum adds it, and the light, and takes the 128 away.
        cv2.addWeighted(luma, gain, self._noise_field(), 1.0, -128.0 + 16 * (1 - gain), dst=luma)
        small = matrix.copy()
        small[:, 2] = (matrix[:, 2] + matrix[:, :2].sum(1) / 2 - 0.5) / 2  # chroma lies between its four pixels
        for plane, rows in ((picture.u, planes[HEIGHT : HEIGHT * 5 // 4]), (picture.v, planes[HEIGHT * 5 // 4 :])):
            _warp(plane, small, rows.reshape(HEIGHT // 2, WIDTH // 2))
        return planes

    def _prepare(self, take: int) -> None:
        self._take = take
        blend = SelfBlend.draw(np.random.default_rng([self._seed, 3, take]), ratio=1.0)
        fake, _ = blend.apply(photograph(), LANDMARKS)
        self._fake = _enlarged(fake)
        start = round((take * PASS + _forged_from(self._seed, take)) * FPS)
        self._forged = range(start, start + round(FORGED * FPS))

    def _move(self) -> tuple[npt.NDArray[np.float64], float]:
        """The camera a frame later: (2, 3) matrix from enlarged photograph to frame, and the gain of its light."""
        pan, tilt, roll, zoom, gain = self._hand.move()
        scale = self._zoom * math.exp(zoom) / _ENLARGED
        linear = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        offset = np.array([WIDTH / 2, HEIGHT / 2]) - linear @ (_ENLARGED * (_AIM + np.array([pan, tilt])))
        return np.hstack((linear, offset[:, None])), math.exp(gain)

    def _draw_noise(self, sigma: float) -> U8:
        shape = (_NOISE_FIELDS, HEIGHT + _NOISE_MARGIN, WIDTH + _NOISE_MARGIN)
        drawn = self._rng.standard_normal(shape, np.float32) * np.float32(sigma)
        return np.asarray(np.clip(np.rint(drawn + 128), 0, 255), np.uint8)

    def _noise_field(self) -> U8:
        """A window of one of the fields: drawing new noise for each frame would cost more than all the rest."""
        field, top, left = self._rng.integers((_NOISE_FIELDS, _NOISE_MARGIN, _NOISE_MARGIN))
        return self._noise[field, top : top + HEIGHT, left : left + WIDTH]


def _warp(plane: U8, matrix: npt.NDArray[np.float64], target: U8) -> None:
    size = (target.shape[1], target.shape[0])
    cv2.warpAffine(plane, matrix, size, dst=target, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _enlarged(rgb: U8) -> Picture:
    height, width = rgb.shape[:2]
    large = cv2.resize(rgb, (width * _ENLARGED, height * _ENLARGED), interpolation=cv2.INTER_CUBIC)
    return picture_of_rgb(np.asarray(large, np.uint8))


@cache
def photograph() -> U8:
    """(512, 512, 3) uint8 RGB."""
    data = files("streamguard.ingest").joinpath("astronaut.webp").read_bytes()
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    rgb.flags.writeable = False
    return np.asarray(rgb, np.uint8)


def _parse(uri: str) -> _Settings:
    form = "demo:?seed=1&duration=60&pace=1"
    path, _, query = uri.removeprefix("demo:").partition("?")
    if path:
        raise SourceRefused(f"'{uri}': unknown form. Write {form}, every part may be left out.")
    settings = _Settings()
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "seed" and value.isascii() and value.isdigit():
            settings = replace(settings, seed=int(value))
        elif key == "duration" and _seconds(value) is not None:
            settings = replace(settings, duration=_seconds(value) or PASS)
        elif key == "pace" and value in ("0", "1"):
            settings = replace(settings, pace=value == "1")
        elif key in ("seed", "duration", "pace"):
            wanted = {"seed": "a whole number from 0", "duration": "seconds from 0.04", "pace": "0 or 1"}[key]
            raise SourceRefused(f"'{uri}': {key} is '{value}', but it has to be {wanted}.")
        else:
            raise SourceRefused(f"'{uri}': unknown key '{key}'. Known: seed, duration, pace.")
    return settings


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 1 / FPS <= seconds < math.inf else None
