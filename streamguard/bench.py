"""``streamguard bench``: how fast this machine is, held against its own limits.

The clip is made on the spot: 720p, 25 frames a second, H.264, one face. Terms, each a median of CPU time on one core:

    D decode a frame (a bare ``for frame in container.decode()`` loop, without any of our code)
    P prepare the detector's input, I detector, N decode its output and track, C crop a face, K classifier

With ``k`` frames from one detection to the next and ``r`` faces classified a frame, ``streams`` files on
``cores`` cores can't go faster than

    limit = min(streams / D, cores / (D + (P + I + N) / k + r (C + K)))
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import av
import cv2
import numpy as np

from streamguard import pixels
from streamguard.config import Config
from streamguard.frames import Box, Face, Picture
from streamguard.inference.backend import create_backend, run
from streamguard.inference.engines import Engine, load_engine
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard, StreamReport, usable_cores
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

    def limit(self, streams: int, cores: int, every: int, classified: float) -> float:
        """Frames a second that ``streams`` files can't exceed; ``classified`` faces a frame."""
        search = (self.prepare + self.detector + self.track) / every
        whole = self.decode + search + classified * (self.crop + self.classifier)
        return 1000 * min(streams / self.decode, cores / whole)


def run_bench(config: Config, progress: Progress = lambda text: None) -> dict[str, Any]:
    """Measure; returns the report of ``bench --json``. ``progress`` hears what is being measured."""
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        clip = Path(folder) / "clip.mp4"
        progress("encoding the clip")
        _encode(clip)
        progress("decoder")
        decode_fps, decode_ms = _decode(clip)
        detector, classifier = load_engine(config.detector.engine), load_engine(config.classifier.engine)
        progress("detector")
        detector_ms = _variants(detector, config.detector.backend)
        progress("classifier")
        classifier_ms = _variants(classifier, config.classifier.backend)
        progress("stages")
        detect = detector_ms[_chosen(detector_ms, config.detector.variant)]
        classify = classifier_ms[_chosen(classifier_ms, config.classifier.variant)]
        terms = _terms(clip, config, decode_ms, detect, classify)
        rows = []
        for streams in (1, 4, 8):
            progress(f"pipeline, {streams} streams")
            rows.append(_pipeline(clip, config, streams, terms))
    return {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "engines": {engine.name: engine.sha256[:16] for engine in (detector, classifier)},
        "decode_fps": round(decode_fps, 1),
        "detector_ms": detector_ms,
        "classifier_ms": classifier_ms,
        "terms_ms": {name: round(value, 3) for name, value in asdict(terms).items()},
        "pipeline": rows,
    }


def _encode(clip: Path) -> None:
    """The demo's picture, enlarged to 720p: H.264, 25 frames a second, 3 Mbit/s, as a camera would send it."""
    source = open_source(f"demo:?seed=1&duration={SECONDS}&pace=0")
    with av.open(str(clip), "w") as container, source.open(1) as connection:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", BITS
        for frame in connection:
            picture = frame.picture
            half = (WIDTH // 2, HEIGHT // 2)
            sizes = ((picture.y, (WIDTH, HEIGHT)), (picture.u, half), (picture.v, half))
            planes = [np.ravel(cv2.resize(plane, size)) for plane, size in sizes]
            whole = np.concatenate(planes).reshape(HEIGHT * 3 // 2, WIDTH)
            container.mux(video.encode(av.VideoFrame.from_ndarray(whole, format="yuv420p")))
        container.mux(video.encode(None))


def _decode(clip: Path) -> tuple[float, float]:
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


def _variants(engine: Engine, backend: str) -> dict[str, float]:
    """Milliseconds a picture on one core, of every variant, in the backend's order of choice.

    Timed in turn, since a machine's speed drifts: A B C A B C ...
    """
    spec = engine.input
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    inbox: SimpleQueue[Any] = SimpleQueue()
    first = create_backend(backend, engine, "auto", inbox, slots=1)
    contenders = {first.variant: first}
    for variant in first.variants:
        if variant not in contenders:
            contenders[variant] = create_backend(backend, engine, variant, inbox, slots=1)
    times: dict[str, list[float]] = {variant: [] for variant in contenders}
    for turn in range(12):
        for variant, contender in contenders.items():
            for _ in range(10):
                started = time.process_time()
                run(contender, inbox, picture)
                if turn > 1:
                    times[variant].append(1000 * (time.process_time() - started))
    for contender in contenders.values():
        contender.close()
    return {variant: round(statistics.median(values), 3) for variant, values in times.items()}


def _chosen(measured: dict[str, float], wanted: str) -> str:
    return next(iter(measured)) if wanted == "auto" else wanted


def _terms(clip: Path, config: Config, decode: float, detect: float, classify: float) -> Terms:
    """The stages beside decoder and networks, on a frame of the clip with its real detector output."""
    detector, classifier = load_engine(config.detector.engine), load_engine(config.classifier.engine)
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


def _pipeline(clip: Path, config: Config, streams: int, terms: Terms) -> dict[str, Any]:
    """The whole chain on ``streams`` copies of the clip: median of the rounds."""
    sampling = config.sampling
    rates, shares = [], []
    for _ in range(ROUNDS):
        reports: SimpleQueue[StreamReport] = SimpleQueue()
        guard = Guard(config, on_end=reports.put)
        with guard:
            started = time.perf_counter()
            for number in range(streams):
                guard.add(open_source(str(clip), name=f"clip{number}"))
            done = [reports.get() for _ in range(streams)]
            elapsed = time.perf_counter() - started
        frames = sum(report.frames for report in done)
        rates.append(frames / elapsed)
        shares.append(sum(track.judged.frames for report in done for track in report.tracks) / frames)
    fps, classified = statistics.median(rates), statistics.median(shares)
    limit = terms.limit(streams, usable_cores(), sampling.detect_every, classified)
    return {
        "streams": streams,
        "faces": round(classified * sampling.detect_every, 2),
        "every": sampling.detect_every,
        "fps": round(fps, 1),
        "limit_fps": round(limit, 1),
        "ratio": round(fps / limit, 3),
    }


def machine() -> str:
    """Processor and usable cores, as every report names them."""
    return f"{_cpu()}, {usable_cores()} cores"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
