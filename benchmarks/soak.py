"""Does anything grow, stall or get lost without a name, over half an hour of live streams in trouble?

    python benchmarks/soak.py [--minutes 30] [--streams 8] [--every-seconds 120] [--json]

Paced 720p25 H.264 streams from real RTSP servers on this machine, which replay what was encoded before. One stream's
server is killed and started again every two minutes, another's is frozen for half a minute in between; nobody touches
the others. Targets: memory grows by less than 1 MB a minute after the first sixth of the time, no untouched stream is
without a frame for 10 s, and every frame that was due is analysed or counted as dropped (``unaccounted`` near 0, which
can only be told while there is no overload: ``overload`` 0).

Needs the Debian packages of tests/servers/debian.txt.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamguard.bench import HEIGHT, WIDTH, machine
from streamguard.config import Config
from streamguard.frames import U8
from streamguard.heap import keep_large_pieces_apart
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard
from streamguard.pixels import rgb_of
from tests.rtsp_server import RtspServer, missing, write_clip

TICK = 1.0
FROZEN = 30.0
STALL = 10.0
SLOPE = 1.0


def pictures(count: int) -> Iterator[U8]:
    """The demo's camera, enlarged."""
    with open_source(f"demo:?seed=4&duration={count / 25:g}&pace=0").open(1) as connection:
        for frame in connection:
            yield np.asarray(cv2.resize(rgb_of(frame.picture), (WIDTH, HEIGHT)), np.uint8)


def resident_mb() -> float:
    """Memory of this process at the moment."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@dataclass
class Troublemaker:
    """Kills, restarts, freezes and thaws two servers, driven by the clock."""

    killed: RtspServer
    frozen: RtspServer
    every: float
    kills: int = 0
    freezes: int = 0
    _frozen_at: float | None = None

    def turn(self, elapsed: float) -> None:
        if elapsed >= (self.kills + 1) * self.every:
            self.kills += 1
            self.killed.kill()
            self.killed.start()
        if self._frozen_at is None and elapsed >= (self.freezes + 0.5) * self.every:
            self.freezes += 1
            self._frozen_at = elapsed
            self.frozen.freeze()
        elif self._frozen_at is not None and elapsed >= self._frozen_at + min(FROZEN, self.every / 3):
            self._frozen_at = None
            self.frozen.thaw()

    def end(self) -> None:
        if self._frozen_at is not None:
            self.frozen.thaw()


@dataclass
class Stalls:
    """How long each stream was without a frame, at worst, once it had given one; seconds."""

    worst: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, now: float, decoded: dict[str, float]) -> None:
        for stream, frames in decoded.items():
            since, before = self._seen.get(stream, (now, frames))
            if frames != before:
                since = now
            self._seen[stream] = (since, frames)
            self.worst[stream] = max(self.worst.get(stream, 0.0), now - since)


def values(guard: Guard, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples of a series."""
    return [
        (sample.labels, sample.value)
        for family in guard.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"streamguard_{name}"
    ]


def watch(guard: Guard, trouble: Troublemaker, seconds: float, say: bool) -> tuple[list[tuple[float, float]], Stalls]:
    """(elapsed seconds, MB) of every tick, and the stalls."""
    sizes: list[tuple[float, float]] = []
    stalls = Stalls()
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        trouble.turn(elapsed)
        stalls.note(elapsed, {labels["stream"]: value for labels, value in values(guard, "frames_decoded_total")})
        sizes.append((elapsed, resident_mb()))
        if say and len(sizes) % 60 == 0:
            print(f"{elapsed / 60:5.1f} min  {sizes[-1][1]:7.1f} MB", flush=True)
        time.sleep(TICK)
    trouble.end()
    return sizes, stalls


def report_of(
    guard: Guard, sizes: list[tuple[float, float]], stalls: Stalls, trouble: Troublemaker, untouched: list[str]
) -> dict[str, Any]:
    """All of it, with the targets."""
    settled = np.array([size for size in sizes if size[0] >= sizes[-1][0] / 6])
    slope = float(np.polyfit(settled[:, 0] / 60, settled[:, 1], 1)[0])
    dropped: dict[str, float] = {}
    for labels, value in values(guard, "frames_dropped_total"):
        dropped[labels["reason"]] = dropped.get(labels["reason"], 0) + value
    searched = sum(value for labels, value in values(guard, "batch_size_sum") if labels["stage"] == "detect")
    decoded = sum(value for _, value in values(guard, "frames_decoded_total"))
    corrupt = sum(value for _, value in values(guard, "frames_corrupt_total"))
    return {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(sizes[-1][0] / 60, 1),
        "kills": trouble.kills,
        "freezes": trouble.freezes,
        "memory_mb": {"first": round(sizes[0][1], 1), "last": round(sizes[-1][1], 1)},
        "memory_slope_mb_minute": round(slope, 3),
        "worst_stall_untouched_seconds": round(max(stalls.worst[name] for name in untouched), 1),
        "reconnects": {labels["reason"]: value for labels, value in values(guard, "stream_reconnects_total")},
        "decoded": decoded,
        "corrupt": corrupt,
        "searched": searched,
        "dropped": dropped,
        "unaccounted": round(1 - (searched + sum(dropped.values())) * guard.config.sampling.stride / decoded, 4),
        "overload": max((value for _, value in values(guard, "overload_level")), default=0.0),
        "targets": {"slope": slope < SLOPE, "no_stall": max(stalls.worst[name] for name in untouched) < STALL},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--every-seconds", type=float, default=120, help="from one kill to the next")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    keep_large_pieces_apart()  # as the command does
    with tempfile.TemporaryDirectory(prefix="streamguard-soak-") as folder:
        clip = write_clip(Path(folder) / "clip.units", pictures(250))
        with RtspServer(clip) as steady, RtspServer(clip) as killed, RtspServer(clip) as frozen:
            trouble = Troublemaker(killed, frozen, options.every_seconds)
            untouched = [f"cam{number}" for number in range(options.streams - 2)]
            with Guard(Config()) as guard:
                for name, server in [(name, steady) for name in untouched] + [("killed", killed), ("frozen", frozen)]:
                    guard.add(open_source(server.url, name=name))
                sizes, stalls = watch(guard, trouble, 60 * options.minutes, not options.json)
                report = report_of(guard, sizes, stalls, trouble, untouched)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:<32}{value}")


if __name__ == "__main__":
    main()
