"""Simulated streams: real talking people, forged for a passage, recompressed, as files that the whole chain can watch.

A recording of a few seconds is played to and fro until the stream is long enough; from a drawn moment on its face is
forged for a while, with the same parameters in every frame, and the whole goes through H.264. The person, the camera
and the background are real, the length and the forgery are not: hence *simulated*.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from streamguard.errors import PictureSize
from streamguard.frames import U8
from streamguard.lab.data import Parts
from streamguard.lab.dataset import Dataset, Entry
from streamguard.pixels import picture_of, picture_of_rgb, rgb_of

CRFS: Final = (18, 23, 28, 35)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Seconds. The passage starts within ``spread`` after ``earliest``; ``taken``: most of a recording.

    ``families``: how many of them a person lends a stream to, in turn, so that all get about as many people.
    """

    length: float = 30.0
    earliest: float = 8.0
    spread: float = 4.0
    passage: float = 12.0
    taken: float = 5.0
    shortest: float = 2.0
    fps: int = 25
    longest_side: int = 640
    families: int = 2
    seed: int = 1


FaceForger = Callable[[U8], U8]
"""(H, W, 3) uint8 RGB to the forged frame, with parameters that stay; the frame itself where it can't be forged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One stream: whose recording, forged how, from when (None: never), and how it is compressed."""

    name: str
    entry: Entry
    part: str
    family: str | None
    start: float | None
    crf: int


def recordings(data: Dataset, parts: Sequence[str]) -> list[tuple[str, Entry]]:
    """One talking recording a person of ``parts``, the first in the manifest."""
    part_of = Parts(data.manifest)
    found: dict[str, tuple[str, Entry]] = {}
    for entry in data.entries(source="talking"):
        part = part_of(entry)
        if part in parts:
            found.setdefault(entry.group, (str(part), entry))
    return list(found.values())


def plans(people: Iterable[tuple[str, Entry]], families: Sequence[str], settings: StreamSettings) -> list[Plan]:
    """For each person one stream without a forgery, and one for each of the families whose turn it is."""
    made = []
    for place, (part, entry) in enumerate(people):
        turn = range(place * settings.families, (place + 1) * settings.families)
        chosen = dict.fromkeys(families[number % len(families)] for number in turn) if families else {}
        for family in (None, *chosen):
            rng = np.random.default_rng((settings.seed, zlib.crc32(f"{entry.group}/{family}".encode())))
            start = None if family is None else round(settings.earliest + settings.spread * float(rng.random()), 2)
            name = f"{entry.group}-{family or 'real'}"
            made.append(Plan(name, entry, part, family, start, CRFS[rng.integers(len(CRFS))]))
    return made


def frames_of(path: Path, settings: StreamSettings) -> list[U8]:
    """The first ``taken`` seconds at about ``fps``, on even sides of at most ``longest_side`` pixels, RGB."""
    found: list[U8] = []
    due = 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pts = float(frame.time or 0.0)
            if pts >= settings.taken:
                break
            if pts >= due - 1e-3:
                found.append(_limited(rgb_of(picture_of(frame)), settings.longest_side))
                due = pts + 1 / settings.fps
    return found


def _limited(rgb: U8, longest: int) -> U8:
    height, width = rgb.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = (int(width * factor) // 2 * 2, int(height * factor) // 2 * 2)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8) if factor < 1 else (
        np.ascontiguousarray(rgb[: size[1], : size[0]])
    )  # fmt: skip


def to_and_fro(count: int, length: int) -> list[int]:
    """``length`` numbers of ``count`` frames, forwards, backwards, forwards."""
    cycle = [*range(count), *range(count - 2, 0, -1)] or [0]
    return [cycle[place % len(cycle)] for place in range(length)]


def write(path: Path, frames: Sequence[U8], plan: Plan, settings: StreamSettings, forge: FaceForger | None) -> int:
    """Encode one stream; returns the number of different frames that were forged.

    Raises:
        PictureSize: a stream with a passage in which no frame could be forged.
    """
    forged: dict[int, U8] = {}
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=settings.fps, options={
            "crf": str(plan.crf), "preset": "superfast", "threads": "1", "g": "50"})  # fmt: skip
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, settings.fps)
        for place, index in enumerate(to_and_fro(len(frames), round(settings.length * settings.fps))):
            rgb = frames[index]
            if (
                forge is not None
                and plan.start is not None
                and 0 <= place / settings.fps - plan.start < settings.passage
            ):
                rgb = forged.setdefault(index, forged[index] if index in forged else forge(rgb))
            picture = picture_of_rgb(rgb)
            planes = np.concatenate([plane.ravel() for plane in (picture.y, picture.u, picture.v)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(height * 3 // 2, width), format="yuv420p")
            frame.pts = place
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    changed = sum(bool((picture != frames[index]).any()) for index, picture in forged.items())
    if forge is not None and not changed:
        raise PictureSize(f"no frame of '{plan.name}' shows a face that can be forged as '{plan.family}'.")
    return changed
