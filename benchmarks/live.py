"""How quick and how hardy live sources are, against a real RTSP server on this machine.

    python benchmarks/live.py [--seconds 30] [--rounds 5] [--json]

Needs the Debian packages that tests/rtsp_server.py names. Three measures, on one 720p25 H.264 stream with a face:

    open      from open() to the first frame, on a running server (keyframe every second)
    score     from a clock burned into the picture before the server encodes it, to the judged scores of that frame
    recovery  from the restarted server's readiness to the first frame after a kill -9
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamguard.bench import machine
from streamguard.config import Config
from streamguard.frames import U8, Frame
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard
from streamguard.pixels import rgb_of
from tests.media import read_stamp
from tests.rtsp_server import RtspServer, write_clip, write_raw

WIDTH, HEIGHT = 1280, 720
DAY = 2**24  # milliseconds; the stamp's modulus
SETTLE = 3.0  # seconds left out at the start of the score measure: engines warm up, the first keyframe arrives


class Timed(Guard):
    """Notes the age of every judged frame, by the clock in its picture; seconds."""

    ages: list[float]

    def analysed(self, frame: Frame) -> None:
        stamp = read_stamp(frame.picture)
        if stamp is not None:
            self.ages.append((round(time.time() * 1000) % DAY - stamp) % DAY / 1000)


def pictures(count: int) -> Iterator[U8]:
    """The demo's camera, enlarged to 720p."""
    with open_source(f"demo:?seed=4&duration={count / 25:g}&pace=0").open(1) as connection:
        for frame in connection:
            yield np.asarray(cv2.resize(rgb_of(frame.picture), (WIDTH, HEIGHT)), np.uint8)


def opening(server: RtspServer, rounds: int) -> list[float]:
    """Seconds from open() to the first frame."""
    times = []
    for number in range(rounds):
        time.sleep(0.37)  # not in step with the keyframes
        started = time.perf_counter()
        with open_source(server.url, name="cam").open(number + 1) as connection:
            next(iter(connection))
        times.append(time.perf_counter() - started)
    return times


def scoring(server: RtspServer, seconds: float) -> list[float]:
    """Ages of the judged frames, seconds."""
    guard = Timed(Config())
    guard.ages = []
    guard.add(open_source(server.url, name="cam"))
    guard.run(duration=seconds + SETTLE)
    return guard.ages[round(SETTLE * 5) :]


def recovering(server: RtspServer, rounds: int) -> list[float]:
    """Seconds from the server's readiness to the first frame after it was killed."""
    times = []
    with Guard(Config()) as guard:
        guard.add(open_source(server.url, name="cam"))
        for _ in range(rounds):
            decoded = _decoded(guard)
            _wait(lambda before=decoded: _decoded(guard) >= before + 50)
            server.kill()
            time.sleep(2.0)
            before = _decoded(guard)
            server.start()
            started = time.perf_counter()
            _wait(lambda before=before: _decoded(guard) > before)
            times.append(time.perf_counter() - started)
    return times


def _decoded(guard: Guard) -> float:
    value = guard.metrics.registry.get_sample_value("streamguard_frames_decoded_total", {"stream": "cam"})
    return value or 0.0


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("no frames for a minute")
        time.sleep(0.005)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="streamguard-live-") as folder:
        clip = write_clip(Path(folder) / "clip.units", pictures(100))
        raw = write_raw(Path(folder) / "clip.yuv", pictures(50))
        with RtspServer(clip) as server:
            opened = opening(server, options.rounds)
            recovered = recovering(server, options.rounds)
        with RtspServer(raw=raw, size=(WIDTH, HEIGHT)) as server:
            ages = scoring(server, options.seconds)
    report = {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "open_seconds": {"median": statistics.median(opened), "worst": max(opened), "n": len(opened)},
        "score_seconds": {
            "p50": float(np.percentile(ages, 50)),
            "p95": float(np.percentile(ages, 95)),
            "p99": float(np.percentile(ages, 99)),
            "n": len(ages),
        },
        "recovery_seconds": {"median": statistics.median(recovered), "worst": max(recovered), "n": len(recovered)},
    }
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}, {report['date']}: one 720p25 H.264 stream over RTSP/TCP, keyframe every second")
    print(f"open to first frame: median {statistics.median(opened):.2f} s, worst {max(opened):.2f} s, n {len(opened)}")
    p50, p95, p99 = (1000 * float(np.percentile(ages, p)) for p in (50, 95, 99))
    print(f"pixel clock to score: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, n {len(ages)}")
    print(f"recovery after kill -9: median {statistics.median(recovered):.2f} s, worst {max(recovered):.2f} s")


if __name__ == "__main__":
    main()
