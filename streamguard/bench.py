"""``streamguard bench``: how fast this machine is, held against its own limits.

The clip is made on the spot: 720p, 25 frames a second, H.264, one face. Terms, each a median of CPU time on one core:

    D decode a frame (a bare ``for frame in container.decode()`` loop, without any of our code)
    P prepare the detector's input, I detector, N decode its output and track, C crop a face, K classifier

With ``k`` frames from one detection to the next and ``r`` faces classified a frame, ``streams`` files on
``cores`` cores can't go faster than

    limit = min(streams / D, cores / (D + (P + I + N) / k + r (C + K)))
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import av
import cv2
import numpy as np

from streamguard import pixels
from streamguard.chain import usable_cores
from streamguard.config import Config
from streamguard.frames import U8, Box, Face, Picture
from streamguard.inference.backend import create_backend, run
from streamguard.inference.engines import Engine, load_engine
from streamguard.inference.measure import measure
from streamguard.inference.processor import processor
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard, StreamReport
from streamguard.vision.classifier import FaceInput
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.quality import QualityGate
from streamguard.vision.tracker import Tracker

SECONDS: Final = 12
WIDTH: Final = 1280
HEIGHT: Final = 720
FPS: Final = 25
BITS: Final = 3_000_000
EVERY: Final = 5
ROUNDS: Final = 3

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """Milliseconds of one core a frame or a face; the letters of the module's formula."""

    decode: float
    prepare: float
    detector: float
    track: float
    crop: float
    classifier: float

    def whole(self, every: int, classified: float) -> float:
        """Milliseconds of one core that a frame takes; ``classified`` faces a frame."""
        search = (self.prepare + self.detector + self.track) / every
        return self.decode + search + classified * (self.crop + self.classifier)

    def limit(self, streams: int, cores: int, every: int, classified: float) -> float:
        """Frames a second that ``streams`` files can't exceed."""
        return 1000 * min(streams / self.decode, cores / self.whole(every, classified))


def run_bench(config: Config, progress: Progress = lambda text: None) -> dict[str, Any]:
    """Measure; returns the report of ``bench --json``. ``progress`` hears what is being measured."""
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        clip = Path(folder) / "clip.mp4"
        progress("encoding the clip")
        make_clip(clip)
        costs = measure_costs(clip, config, progress)
        rows = []
        with Runner(config) as runner:
            for streams in (1, 4, 8):
                progress(f"pipeline, {streams} streams")
                rows.append(runner.row(clip, streams, costs.terms, ROUNDS))
    return {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "engines": costs.engines,
        "backends": {"detector": config.detector.backend, "classifier": config.classifier.backend},
        "decode_fps": round(costs.decode_fps, 1),
        "detector_ms": costs.detector_ms,
        "classifier_ms": costs.classifier_ms,
        "terms_ms": {name: round(value, 3) for name, value in asdict(costs.terms).items()},
        "pipeline": rows,
    }


def make_clip(
    clip: Path, *, faces: int = 1, seconds: float | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    """H.264 as a camera would send it: 25 frames a second, 3 Mbit/s at 720p, with ``faces`` faces in a grid.

    Each is the demo's; without any the demo's picture is blurred beyond recognition. ``size``: (width, height), even.
    """
    source = open_source(f"demo:?seed=1&duration={seconds or SECONDS:g}&pace=0")
    width, height = size
    with av.open(str(clip), "w") as container, source.open(1) as connection:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.bit_rate = BITS * width * height // (WIDTH * HEIGHT)
        for frame in connection:
            picture = frame.picture
            planes = [_tiled(picture.y, width, height, faces)]
            planes += [_tiled(plane, width // 2, height // 2, faces) for plane in (picture.u, picture.v)]
            whole = np.concatenate([np.ravel(plane) for plane in planes]).reshape(height * 3 // 2, width)
            container.mux(video.encode(av.VideoFrame.from_ndarray(whole, format="yuv420p")))
        container.mux(video.encode(None))
    return clip


def _tiled(plane: U8, width: int, height: int, faces: int) -> U8:
    """(height, width): the middle of ``plane`` once for each face, side by side."""
    if faces == 0:
        blurred = cv2.resize(plane, (8, 5), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(blurred, (width, height)), np.uint8)
    columns = math.ceil(math.sqrt(faces))
    rows = math.ceil(faces / columns)
    tile_width, tile_height = width // columns, height // rows
    across = min(plane.shape[1], round(plane.shape[0] * tile_width / tile_height))
    left = (plane.shape[1] - across) // 2
    tile = cv2.resize(plane[:, left : left + across], (tile_width, tile_height))
    whole = np.full((height, width), 128, np.uint8)
    for index in range(faces):
        y, x = index // columns * tile_height, index % columns * tile_width
        whole[y : y + tile_height, x : x + tile_width] = tile
    return whole


@dataclass(frozen=True, slots=True)
class Costs:
    """What :func:`measure_costs` found: the terms, and the times of every variant that they were taken from."""

    terms: Terms
    decode_fps: float
    detector_ms: dict[str, float]
    classifier_ms: dict[str, float]
    engines: dict[str, str]


def measure_costs(clip: Path, config: Config, progress: Progress = lambda text: None) -> Costs:
    """The terms of the formula on this machine, one after the other."""
    progress("decoder")
    decode_fps, decode_ms = decode_speed(clip)
    detector, classifier = load_engine(config.detector.engine), load_engine(config.classifier.engine)
    detector_ms = measure(detector, config.detector.backend, progress)
    classifier_ms = measure(classifier, config.classifier.backend, progress)
    progress("stages")
    detect = detector_ms[_chosen(detector_ms, config.detector.variant)]
    classify = classifier_ms[_chosen(classifier_ms, config.classifier.variant)]
    terms = _terms(clip, config, (detector, classifier), (decode_ms, detect, classify))
    engines = {engine.name: engine.sha256[:16] for engine in (detector, classifier)}
    return Costs(terms, decode_fps, detector_ms, classifier_ms, engines)


def decode_speed(clip: Path) -> tuple[float, float]:
    """(frames a second of wall time, CPU milliseconds a frame), medians, one thread, none of our code."""
    rates, costs = [], []
    for _ in range(ROUNDS):
        with av.open(str(clip)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            wall, cpu = time.perf_counter(), time.process_time()
            count = 0
            for _frame in container.decode(video=0):
                count += 1
            rates.append(count / (time.perf_counter() - wall))
            costs.append(1000 * (time.process_time() - cpu) / count)
    return statistics.median(rates), statistics.median(costs)


def _chosen(measured: dict[str, float], wanted: str) -> str:
    return next(iter(measured)) if wanted == "auto" else wanted


def _terms(clip: Path, config: Config, engines: tuple[Engine, Engine], measured: tuple[float, float, float]) -> Terms:
    """The stages beside decoder and networks, on a frame of the clip with its real detector output."""
    (detector, classifier), (decode, detect, classify) = engines, measured
    picture = _first_picture(clip)
    size, pad = (detector.input.width, detector.input.height), int(detector.manifest["preprocessing"]["pad"])
    canvas, box = pixels.letterbox(picture, *size, pad)
    inbox: SimpleQueue[Any] = SimpleQueue()
    backend = create_backend(config.detector.backend, detector, config.detector.variant, inbox, slots=1)
    raw = run(backend, inbox, canvas[None])[0]
    backend.close()
    decoder, gate, face_input = FaceDecoder.of(detector.manifest), QualityGate(config.quality), FaceInput.of(classifier)
    tracker = Tracker(config.tracking, 1)
    clock = iter(range(10**9))

    def track() -> None:
        tracker.update(next(clock) / 5, decoder.decode(raw, box, picture.width, picture.height))

    face = next(iter(decoder.decode(raw, box, picture.width, picture.height)), Face(Box(500, 200, 700, 440), 1.0))

    def crop() -> None:
        gate.judge(face, picture)
        face_input.prepare(picture, face.box)

    prepare = _median_ms(lambda: pixels.letterbox(picture, *size, pad))
    return Terms(decode, prepare, detect, _median_ms(track), _median_ms(crop), classify)


def _first_picture(clip: Path) -> Picture:
    with av.open(str(clip)) as container:
        return pixels.picture_of(next(container.decode(video=0))).copy()


def _median_ms(call: Callable[[], object], rounds: int = 300) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        times.append(1000 * (time.process_time() - started))
    return statistics.median(times)


class Run(NamedTuple):
    """Of all streams together: frames a second, faces classified a frame, milliseconds of CPU time a frame."""

    fps: float
    classified: float
    cpu_ms: float


class Runner:
    """One Guard, engines loaded once, that files run through as fast as they can."""

    def __init__(self, config: Config) -> None:
        self.guard: Final = Guard(config, on_end=self._ended)
        self._sampling = config.sampling
        self._reports: SimpleQueue[StreamReport] = SimpleQueue()
        self._runs = 0

    def __enter__(self) -> Runner:
        self.guard.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.guard.__exit__(*exception)

    def _ended(self, report: StreamReport) -> None:
        self._reports.put(report)

    def run(self, clip: Path, streams: int) -> Run:
        """``streams`` copies of the clip, at once."""
        self._runs += 1
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(streams):
            self.guard.add(open_source(str(clip), name=f"run{self._runs}-{number}"))
        done = [self._reports.get() for _ in range(streams)]
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
        frames = sum(report.frames for report in done)
        classified = sum(track.judged.frames for report in done for track in report.tracks)
        return Run(frames / elapsed, classified / frames, 1000 * cpu / frames)

    def row(self, clip: Path, streams: int, terms: Terms, rounds: int, faces: int = 1) -> dict[str, Any]:
        """Medians of ``rounds`` runs, held against the limit. ``faces``: those that the clip shows.

        ``ratio`` is of time, and needs a machine with nothing else to do; ``cpu_ratio`` is of CPU time: the terms'
        over what the process took, the rest is work that no term names.
        """
        runs = [self.run(clip, streams) for _ in range(rounds)]
        fps, classified, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        limit = terms.limit(streams, usable_cores(), self._sampling.stride, classified)
        return {
            "streams": streams,
            "faces": faces,
            "every": self._sampling.stride,
            "fps": round(fps, 1),
            "limit_fps": round(limit, 1),
            "ratio": round(fps / limit, 3),
            "cpu_ratio": round(terms.whole(self._sampling.stride, classified) / cpu, 3),
            "classified": round(classified, 3),
        }


def on_backend(config: Config, backend: str) -> Config:
    """The same with both models on ``backend``; a name that is not known is refused when it is opened."""
    detector, classifier = (
        choice.model_copy(update={"backend": backend}) for choice in (config.detector, config.classifier)
    )
    return config.model_copy(update={"detector": detector, "classifier": classifier})


def machine() -> str:
    """Processor and usable cores, as every report names them."""
    return f"{processor()}, {usable_cores()} cores"
