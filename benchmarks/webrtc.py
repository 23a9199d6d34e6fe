"""How quick WebRTC is, and what it takes: streams in by WHIP, the annotated picture out by WHEP.

    python -m benchmarks.webrtc [--seconds 20] [--only glass,viewers,slow,loss,badge] [--json]

The other side is aiortc in this process, over the loopback; `streamguard serve` is a process of its own. Its picture
carries a clock: the millisecond in which it was drawn, read back from the pixels at the end of the way.

    glass     from drawing to the pixels of a viewer, at 480p and 720p: WHIP in, drawn on, encoded anew, WHEP out
    viewers   CPU time of the server with four viewers, over that with one
    slow      from drawing to the judged frame, with an analysis that takes 60 ms a frame (in this process)
    loss      from drawing to the judged frame, with 2 % of the packets lost on the way (in this process)
    badge     from the first forged picture to `flagged` on the sender's data channel, less what the same pictures take
              from a file: what WebRTC adds to the statistic's own floor
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import cv2
import numpy as np
from prometheus_client import CollectorRegistry

from streamguard.access import ApiSettings, WebRtcSettings
from streamguard.bench import machine
from streamguard.config import Config
from streamguard.frames import U8, Frame, Picture
from streamguard.ingest.demo import truth
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.pixels import picture_of, rgb_of
from streamguard.server.api import Api
from streamguard.server.app import Address, Health, Server
from streamguard.server.auth import Role, TokenFile
from streamguard.server.whip import Calls
from tests.media import read_stamp, stamp
from tests.peers import Camera, Sender, Viewer, h264, lose, until

DAY: Final = 2**24  # milliseconds; the stamp's modulus
SETTLE: Final = 5.0  # seconds left out at the start of each measure
SEED: Final = 6  # a made stream whose forgery the shipped engine finds
SIZES: Final = {"480p": (640, 480), "720p": (1280, 720)}
HERE: Final = WebRtcSettings(addresses=("127.0.0.1",))


def draw(rgb: U8) -> U8:
    """The clock into a picture, away from its edges: a frame of the verdict's colour is drawn there."""
    stamp(rgb[rgb.shape[0] * 3 // 4 :, 64:], now())
    return rgb


def read(picture: Picture) -> int | None:
    """The clock of a picture, if it can be read."""
    return read_stamp(Picture(picture.y[picture.height * 3 // 4 :, 64:], picture.u, picture.v))


def now() -> int:
    """The clock that is drawn, milliseconds."""
    return round(time.time() * 1000) % DAY


def age(number: int) -> float:
    """Seconds since a stamp was drawn."""
    return ((now() - number) % DAY) / 1000


class Ages(NamedTuple):
    """What was measured, seconds."""

    median: float
    p95: float
    n: int

    @classmethod
    def of(cls, ages: list[float]) -> Ages:
        return cls(round(statistics.median(ages), 3), round(float(np.percentile(ages, 95)), 3), len(ages))


class ClockCamera(Camera):
    """Films a photograph with a clock in it, 30 times a second, and encodes as a browser would: at once."""

    def __init__(self, width: int, height: int, fps: int = 30) -> None:
        super().__init__([b""], fps=fps)
        self._scene = scene(width, height)
        self._encoder: Any = av.CodecContext.create("libx264", "w")
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = width, height, "yuv420p"
        self._encoder.framerate, self._encoder.profile = Fraction(fps), "Baseline"
        self._encoder.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "threads": "1",
            "g": "60",
            "b": "2500000",
        }

    async def recv(self) -> av.Packet[Any]:
        template = await super().recv()
        drawn = draw(self._scene[self.shown % len(self._scene)].copy())
        planes = cv2.cvtColor(drawn, cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = template.pts, template.time_base
        packet = av.Packet(b"".join(bytes(one) for one in self._encoder.encode(frame)))
        packet.pts, packet.time_base = template.pts, template.time_base
        return packet


def scene(width: int, height: int) -> list[U8]:
    """A second of the made stream at that size."""
    with open_source("demo:?seed=4&duration=1&pace=0").open(1) as connection:
        return [np.asarray(cv2.resize(rgb_of(frame.picture), (width, height)), np.uint8) for frame in connection]


@contextmanager
def served() -> Iterator[tuple[str, str, str, int]]:
    """`streamguard serve` as a process: its address, a sender's and a viewer's token."""
    with tempfile.TemporaryDirectory(prefix="streamguard-webrtc-") as folder:
        tokens = TokenFile(Path(folder) / "tokens.json")
        sender, viewer = tokens.add("sender", Role.SENDER), tokens.add("viewer", Role.VIEWER)
        config = {"api": {"tokens": "tokens.json"}, "webrtc": {"addresses": ["127.0.0.1"]}, "listen": "127.0.0.1:0"}
        (Path(folder) / "streamguard.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-c", "from streamguard.cli import main; main()", "serve"]
        path = os.pathsep.join([os.getcwd(), *sys.path])
        with subprocess.Popen(
            [*command, "--config", "streamguard.yaml"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().split()[3].removesuffix("/metrics")
                while not _ready(url):
                    time.sleep(0.2)
                yield url, sender, viewer, process.pid
            finally:
                process.terminate()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Timed(Guard):
    """Notes the age of every judged frame, and takes ``pause`` seconds for each; ``since`` that time alone."""

    ages: list[float]
    pause = 0.0
    since = float("inf")

    def analysed(self, frame: Frame) -> None:
        super().analysed(frame)
        time.sleep(self.pause)
        number = read(frame.picture)
        if number is not None and time.monotonic() >= self.since:
            self.ages.append(age(number))


@asynccontextmanager
async def sending(url: str, token: str, camera: Camera) -> AsyncIterator[Sender]:
    """A sender that is connected."""
    async with Sender(url, token, "cam", camera) as sender:
        status = await sender.open()
        if status != 201:
            raise SystemExit(f"the sender was refused: {status} {sender.answer}")
        await sender.connected()
        yield sender
        await sender.end()


async def watching(url: str, token: str, seconds: float) -> list[float]:
    """Ages of the pictures that a viewer decodes."""
    async with Viewer(url, token, "cam") as viewer:
        if await viewer.open() != 201:
            raise SystemExit(f"the viewer was refused: {viewer.status} {viewer.answer}")
        await until(lambda: viewer.frames)
        await asyncio.sleep(SETTLE)
        ages: list[float] = []
        viewer.frames.clear()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(0.001)
            for frame in viewer.frames:
                number = read(picture_of(frame))
                if number is not None:
                    ages.append(age(number))
            viewer.frames.clear()
        return ages


def glass(seconds: float) -> dict[str, Any]:
    """Per size."""
    found: dict[str, Any] = {}
    with served() as (url, sender, viewer, _):
        for name, size in SIZES.items():

            async def measure(size: tuple[int, int] = size) -> list[float]:
                async with sending(url, sender, ClockCamera(*size)):
                    await asyncio.sleep(1.0)
                    return await watching(url, viewer, seconds)

            found[name] = Ages.of(asyncio.run(measure()))._asdict()
    return found


def cpu(process: int) -> float:
    """Seconds of CPU time that a process has taken (proc(5): utime and stime)."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def viewers(seconds: float) -> dict[str, Any]:
    """Shares of one core that the server takes."""

    async def measure(url: str, sender: str, viewer: str, server: int, count: int) -> float:
        async with sending(url, sender, ClockCamera(*SIZES["720p"])):
            await asyncio.sleep(1.0)
            watched = [Viewer(url, viewer, "cam") for _ in range(count)]
            for one in watched:
                await one.open()
            await asyncio.sleep(SETTLE)
            before = cpu(server)
            await asyncio.sleep(seconds)
            took = cpu(server) - before
            for one in watched:
                await one.end()
                await one.connection.close()
            return took / seconds

    with served() as (url, sender, viewer, server):
        one, four = (asyncio.run(measure(url, sender, viewer, server, count)) for count in (1, 4))
    return {"one": round(one, 3), "four": round(four, 3), "ratio": round(four / one, 2)}


def judged(seconds: float, pause: float, losing: Callable[[int], bool] | None) -> dict[str, Any]:
    """Ages of the judged frames, with all of it in this process."""
    metrics = Metrics(CollectorRegistry())
    with tempfile.TemporaryDirectory(prefix="streamguard-webrtc-") as folder:
        path = Path(folder) / "tokens.json"
        token, settings = TokenFile(path).add("sender", Role.SENDER), ApiSettings(tokens=str(path))
        guard = Timed(Config(), metrics=metrics)
        guard.ages, guard.pause = [], pause
        api = Api(settings, lambda: guard)
        calls = Calls(HERE, (), api, lambda: guard, metrics)
        well = Health(lambda: (), lambda: (), lambda: ())

        async def measure(url: str) -> None:
            async with sending(url, token, ClockCamera(*SIZES["480p"])) as sender:
                if losing is not None:
                    lose(sender.connection, losing)
                guard.since = time.monotonic() + SETTLE
                await asyncio.sleep(SETTLE + seconds)

        with guard, Server(metrics, well, Address("127.0.0.1", 0), settings, api, calls) as server:
            asyncio.run(measure(server.url))
    return Ages.of(guard.ages)._asdict()


def badge() -> dict[str, Any]:
    """From the first forged picture to the word of it."""
    forged = next(passage for passage in truth(SEED, 60) if passage["forged"])
    start, end = forged["start"] - 15.0, forged["start"] + 8.0
    with open_source(f"demo:?seed={SEED}&duration={end:g}&pace=0").open(1) as connection:
        frames = [rgb_of(frame.picture) for frame in connection if frame.pts >= start]
    units = h264(iter(frames), fps=25, gop=50)
    fps, first = 25, round((forged["start"] - start) * 25)
    with tempfile.TemporaryDirectory(prefix="streamguard-webrtc-") as folder:
        (Path(folder) / "clip.h264").write_bytes(b"".join(units))
        events: list[Any] = []
        guard = Guard(Config(), on_event=events.append)
        guard.add(open_source(str(Path(folder) / "clip.h264"), name="file"))
        guard.run()
    floor = min(e["data"]["pts"] for e in events if _flagged(e)) - first / fps

    async def measure(url: str, token: str) -> float:
        camera = Camera(units, fps=fps)
        async with sending(url, token, camera) as sender:
            await until(lambda: camera.shown > first)
            shown = time.monotonic()
            await until(lambda: any(_flagged(event) for event in sender.events))
            return time.monotonic() - shown

    with served() as (url, sender, _, _):
        took = [asyncio.run(measure(url, sender)) for _ in range(3)]
    return {
        "floor": round(floor, 2),
        "took": [round(one, 2) for one in took],
        "added": round(statistics.median(took) - floor, 2),
    }


def _flagged(event: dict[str, Any]) -> bool:
    return "track.state" in event["type"] and event["data"]["state"] == "flagged"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="glass,viewers,slow,loss,badge")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "glass": lambda: glass(options.seconds),
        "viewers": lambda: viewers(options.seconds),
        "slow": lambda: judged(options.seconds, 0.06, None),
        "loss": lambda: judged(options.seconds, 0.0, lambda number: number % 50 == 0),
        "badge": badge,
    }
    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    for name in options.only.split(","):
        report[name] = measures[name]()
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}, {report['date']}: one made camera at 30 pictures a second, over the loopback")
    for name, one in report.get("glass", {}).items():
        print(f"glass to glass {name}: {_said(one)}")
    if "viewers" in report:
        one = report["viewers"]
        print(f"CPU of the server, 720p: one viewer {one['one']:.2f}, four {one['four']:.2f}, ratio {one['ratio']:.2f}")
    for name, what in (("slow", "60 ms a frame"), ("loss", "2 % loss")):
        if name in report:
            print(f"drawn to judged, {what}: {_said(report[name])}")
    if "badge" in report:
        one = report["badge"]
        print(f"forged to flagged: floor {one['floor']:.2f} s, took {one['took']}, added {one['added']:.2f} s")


def _said(one: dict[str, Any]) -> str:
    return f"median {1000 * one['median']:.0f} ms, p95 {1000 * one['p95']:.0f} ms, n {one['n']}"


if __name__ == "__main__":
    main()
