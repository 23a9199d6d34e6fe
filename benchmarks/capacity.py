"""How many live streams this machine keeps up with, and how old a score is when it comes.

    python benchmarks/capacity.py [--size 1280x720] [--seconds 60] [--rounds 3] [--first 8] [--json]

Paced 25-frames-a-second H.264 streams over RTSP/TCP with one face each. One server on this machine replays what was
encoded before; its CPU is printed, since it takes it from the same cores. A stream is due a search every 5th of the
frames that were decoded, whatever the overload policy makes of it. A number of streams is kept when under 1 % of what
was due in ``--seconds`` was left undone. Each round climbs or descends from the last one's answer; the median counts.
Then, at 50, 80 and 100 % of it, two ages of scores: since the frame was decoded, and since it was captured by the
server's clock (RTCP sender reports). The models run in the precisions that `streamguard engines build` chose, if it was
run. Target on two cores: 12 streams of 720p; 95 % of scores within 250 ms at 80 %.

Needs the Debian packages of tests/servers/debian.txt.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from benchmarks.soak import values
from benchmarks.webrtc import cpu
from streamguard.bench import BITS, FPS, HEIGHT, WIDTH, machine, make_clip
from streamguard.config import Config
from streamguard.frames import Frame, Look, StreamSnapshot
from streamguard.heap import keep_large_pieces_apart
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard
from tests.rtsp_server import RtspServer, missing

LEFT = 0.01
"""Share of what was due that may be left undone."""
SETTLE = 15.0
"""Seconds from the last stream's first frame on that are not counted: a start is an overload of its own."""


class Aged(Guard):
    """Keeps the age of every score while ``noting``; seconds."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.noting = False
        self.since_decoded: list[float] = []
        self.since_captured: list[float] = []
        self._looked: set[str] = set()

    def looked(self, frame: Frame, looks: Sequence[Look]) -> None:
        super().looked(frame, looks)
        if self.noting:
            self._looked.add(frame.stream)
            self.since_captured.append(time.time() - frame.captured_at)

    def standing(self, snapshot: StreamSnapshot) -> None:
        super().standing(snapshot)
        if snapshot.stream in self._looked and snapshot.latency is not None:
            self._looked.discard(snapshot.stream)
            self.since_decoded.append(snapshot.latency)


@dataclass(frozen=True)
class Ages:
    """Of scores, seconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, ages: list[float]) -> Ages:
        return cls(*(round(float(np.percentile(ages, part)), 3) if ages else math.nan for part in (50, 95, 99)))


@dataclass(frozen=True)
class Trial:
    """A number of streams over a while. CPU is in cores; ``step``: of the overload policy, at worst; ``variants``: of
    the models, as they ran."""

    streams: int
    undone: float
    step: float
    variants: str
    scores_second: float
    cpu: float
    server_cpu: float
    decoded: Ages
    captured: Ages

    @property
    def kept(self) -> bool:
        return self.undone < LEFT


def trial(server: RtspServer, streams: int, seconds: float) -> Trial:
    """Watch that many, and look on for so long."""
    with Aged(Config()) as guard:
        for number in range(streams):
            guard.add(open_source(server.url, name=f"cam{number}"))
        _until_all_give_frames(guard, streams)
        time.sleep(SETTLE)
        before, own, served = _counted(guard), time.process_time(), cpu(server.pid)
        guard.noting, began, step = True, time.monotonic(), 0.0
        while (elapsed := time.monotonic() - began) < seconds:
            step = max(step, *(value for _, value in values(guard, "overload_level")))
            time.sleep(min(0.25, seconds - elapsed))
        decoded, searched = (after - then for after, then in zip(_counted(guard), before, strict=True))
        elapsed = time.monotonic() - began
        return Trial(
            streams,
            undone=round(1 - searched * guard.config.sampling.stride / decoded, 4),
            step=step,
            variants=", ".join(f"{of['name']} {of['variant']}" for of, _ in values(guard, "engine_info")),
            scores_second=round(len(guard.since_captured) / elapsed / streams, 2),
            cpu=round((time.process_time() - own) / elapsed, 2),
            server_cpu=round((cpu(server.pid) - served) / elapsed, 2),
            decoded=Ages.of(guard.since_decoded),
            captured=Ages.of(guard.since_captured),
        )


def most(server: RtspServer, first: int, seconds: float, say: bool) -> tuple[int, list[Trial]]:
    """The most streams that are kept, from ``first`` on up or down, one by one."""
    trials: dict[int, Trial] = {}
    streams = first
    while streams > 0 and streams not in trials:
        trials[streams] = one = trial(server, streams, seconds)
        if say:
            _show(one)
        streams += 1 if one.kept else -1
    return max((number for number, one in trials.items() if one.kept), default=0), list(trials.values())


def _until_all_give_frames(guard: Guard, streams: int) -> None:
    deadline = time.monotonic() + 120
    while sum(value > 0 for _, value in values(guard, "frames_decoded_total")) < streams:
        if time.monotonic() > deadline:
            raise SystemExit("a stream gave no frame for two minutes")
        time.sleep(0.1)


def _counted(guard: Guard) -> tuple[float, float]:
    """Frames decoded, and frames searched for faces."""
    return (
        sum(value for _, value in values(guard, "frames_decoded_total")),
        sum(value for labels, value in values(guard, "batch_size_sum") if labels["stage"] == "detect"),
    )


def units(clip: Path, out: Path) -> Path:
    """The pictures of ``clip`` as a camera sends them: one slice each, a keyframe every 2 seconds, the clip's bit rate.

    Access units as ``tests.rtsp_server.write_clip`` has them, whose own encoder makes what is cheaper to decode.
    """
    with av.open(str(clip)) as container, out.open("wb") as written:
        video = container.streams.video[0]
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = video.width, video.height, "yuv420p"
        encoder.framerate = Fraction(FPS)
        encoder.bit_rate = BITS * video.width * video.height // (WIDTH * HEIGHT)
        encoder.options = {"preset": "veryfast", "tune": "zerolatency", "g": str(2 * FPS), "x264-params": "slices=1"}
        encoder.thread_count = 1
        for picture in [*container.decode(video=0), None]:
            if picture is not None:
                picture.pict_type = PictureType.NONE
            for unit in encoder.encode(picture):
                written.write(struct.pack(">I", unit.size) + bytes(unit))
    return out


def _show(one: Trial) -> None:
    ages = "   ".join(
        f"{name} p50 {1000 * age.p50:.0f} p95 {1000 * age.p95:.0f} p99 {1000 * age.p99:.0f} ms"
        for name, age in (("decoded", one.decoded), ("captured", one.captured))
    )
    print(
        f"{one.streams:>3} streams: {100 * one.undone:5.2f} % undone, overload step {one.step:g}, "
        f"{one.scores_second:.2f} scores/s, CPU {one.cpu:.2f} + server {one.server_cpu:.2f}   {ages}",
        flush=True,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="of the pictures, WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=60, help="that a number of streams has to be kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first", type=int, default=8, help="streams to begin with")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    keep_large_pieces_apart()  # as the command does
    width, height = (int(part) for part in options.size.split("x"))
    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "size": options.size}
    with tempfile.TemporaryDirectory(prefix="streamguard-capacity-") as folder:
        clip = make_clip(Path(folder) / "clip.mp4", size=(width, height))
        with RtspServer(units(clip, Path(folder) / "clip.units")) as server:
            answers, trials, first = [], [], options.first
            for _ in range(options.rounds):
                first, tried = most(server, max(1, first), options.seconds, not options.json)
                answers.append(first)
                trials += tried
            median = statistics.median_low(answers)
            shares = {}
            for share in (0.5, 0.8, 1.0):
                if streams := math.floor(share * median):
                    shares[f"{share:.0%}"] = one = trial(server, streams, options.seconds)
                    if not options.json:
                        print(f"{share:.0%}:", end=" ")
                        _show(one)
    report |= {"streams": median, "rounds": answers, "trials": [asdict(one) for one in trials]}
    report["ages"] = {share: asdict(one) for share, one in shares.items()}
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}, {report['date']}, {trials[0].variants}")
    print(f"{median} streams of {options.size} are kept (rounds: {answers})")


if __name__ == "__main__":
    main()
