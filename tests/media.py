"""Media for all tests, made on the spot: no picture or video lies in the repository for their sake.

Every made frame carries its number as black and white blocks along its upper edge (:func:`stamp`), so that a
test can say which frame it got, whatever codec or network lay in between.
"""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from streamguard.frames import U8, Matrix, Picture
from streamguard.ingest.demo import photograph
from streamguard.pixels import letterbox, picture_of_rgb

BLOCK = 8  # pixels; the side of a bit of a stamp
BITS = 24


def astronaut_letterboxed(width: int, height: int) -> U8:
    """The photograph of the demo as a detector takes it: (height, width, 3) uint8 RGB."""
    return letterbox(picture_of_rgb(photograph()), width, height)[0]


def pattern(number: int, width: int = 320, height: int = 240) -> U8:
    """(height, width, 3) uint8 RGB: a gradient with a disc that moves, stamped with ``number``."""
    x = np.linspace(0, 200, width, dtype=np.float32)
    y = np.linspace(0, 200, height, dtype=np.float32)[:, None]
    rgb = np.stack(np.broadcast_arrays(x, y, (x + y) / 2), axis=-1).astype(np.uint8)
    centre = (round(width * (0.5 + 0.3 * math.sin(number / 10))), height * 5 // 8)
    cv2.circle(rgb, centre, max(1, height // 6), (230, 120, 40), -1)
    return stamp(rgb, number)


def stamp(rgb: U8, number: int) -> U8:
    """Write ``number`` (24 bits and their parity) into the upper edge, if the picture is wide enough."""
    if rgb.shape[1] >= BLOCK * (BITS + 1):
        for bit, value in enumerate(_bits(number)):
            rgb[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * value
    return rgb


def read_stamp(picture: Picture) -> int | None:
    """The number of a stamped picture; None where it can't be read."""
    centres = np.arange(BITS + 1) * BLOCK + BLOCK // 2
    seen = [int(v > 128) for v in picture.y[BLOCK // 2, centres]]
    number = sum(value << bit for bit, value in enumerate(seen[:BITS]))
    return number if seen == _bits(number) else None


def _bits(number: int) -> list[int]:
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    return [*bits, sum(bits) % 2]


def patterns(count: int, width: int = 320, height: int = 240, first: int = 0) -> Iterator[U8]:
    """``count`` frames of :func:`pattern`."""
    return (pattern(first + i, width, height) for i in range(count))


def write_video(
    path: Path | str,
    frames: Iterable[U8],
    *,
    codec: str = "libx264",
    fps: int = 25,
    gop: int = 25,
    audio: bool = False,
    muxer: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
    format: str | None = None,
    matrix: Matrix = "bt601",
) -> Path:
    """Encode (H, W, 3) uint8 RGB frames into a file; ``audio`` adds a tone as long as the video.

    ``matrix`` is used, and named by the stream's tag where it is not the usual one.
    """
    options = {"preset": "ultrafast", "threads": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=muxer or {}, format=format) as out:
        video = out.add_stream(codec, rate=fps, options=options | {"g": str(gop)} | (encoder or {}))
        video.pix_fmt = "yuv420p"
        sound = out.add_stream("aac", rate=16000, layout="mono") if audio else None
        for index, rgb in enumerate(frames):
            if index == 0:
                video.height, video.width = rgb.shape[:2]
            out.mux(video.encode(_planar(rgb, matrix)))
            if sound is not None:
                out.mux(sound.encode(_tone(index, 16000 // fps)))
        out.mux(video.encode(None))
        if sound is not None:
            out.mux(sound.encode(None))
    return Path(path)


def _planar(rgb: U8, matrix: Matrix) -> av.VideoFrame:
    colours = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}[matrix]
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", dst_colorspace=colours)
    if matrix == "bt709":
        frame.colorspace = Colorspace.ITU709
    return frame


def _tone(index: int, length: int) -> av.AudioFrame:
    t = np.arange(index * length, (index + 1) * length) / 16000
    wave_ = (0.2 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(wave_, format="fltp", layout="mono")
    frame.sample_rate = 16000
    frame.pts = index * length
    return frame


def write_still(path: Path, pixels: U8) -> Path:
    """A picture file in the format of its ending; (H, W, 3) RGB or (H, W) grey, uint8."""
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return path


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A WAV file of silence."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(int(16000 * seconds)))
    return path


def tag_rotation(path: Path, degrees: int) -> Path:
    """Set the display matrix of an MP4: players turn the picture clockwise by ``degrees``."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of other fields (ISO/IEC 14496-12)
    cos, sin = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    matrix = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep only the first ``share`` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
