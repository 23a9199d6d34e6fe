"""Mutated films and pictures through `scan`, in a child that may crash: `python -m tests.fuzz.media --count 10000`.

Each input is a small MP4, MPEG-TS or JPEG with bytes flipped, cut out, doubled, or cut off, by a seed. The child scans
them one after the other; the parent counts what it said and watches it: an input that takes longer than `--limit`
seconds is a hang, a child that dies is a crash, and its peak memory is held against `--memory` MiB. Exits with 1 if one
of them happened; the inputs that did it are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from tests.media import astronaut_letterboxed, patterns, write_video

START = 300.0
"""Seconds that a child may take until its engines are loaded."""


@dataclass
class Result:
    """What became of the inputs."""

    told: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0  # MiB

    def good(self, memory: int) -> bool:
        """Whether nothing happened that must not."""
        return not self.crashes and not self.hangs and self.peak <= memory


def originals(folder: Path) -> dict[str, bytes]:
    """One sound file a kind, by its ending."""
    face = astronaut_letterboxed(256, 256)
    frames = [*patterns(4, 256, 256), *[face] * 8]
    made = {
        ".mp4": write_video(folder / "a.mp4", frames, gop=4, audio=True),
        ".ts": write_video(folder / "a.ts", frames, gop=4),
    }
    assert cv2.imwrite(str(folder / "a.jpg"), cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
    made[".jpg"] = folder / "a.jpg"
    return {ending: path.read_bytes() for ending, path in made.items()}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few changes, more often near the beginning, where headers lie."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        at = int(len(out) * rng.random() ** rng.choice((1, 1, 3)))
        length = min(rng.choice((1, 1, 2, 4, 16, 256)), len(out) - at)
        change = rng.randrange(6)
        if change == 0 and len(out) > at:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            out[at : at + length] = rng.randbytes(length)
        elif change == 2:
            del out[at : at + length]
        elif change == 3:
            out[at:at] = out[at : at + length]
        elif change == 4:
            out[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
        elif rng.random() < 0.2:
            del out[at:]
    return bytes(out)


class Child:
    """A process that scans what it is told to, a line in, a line out."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fuzz.scanner"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self._lines.get(timeout=START) != "ready\n":
            raise RuntimeError("the child did not start")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def scan(self, path: Path, limit: float) -> dict[str, object] | None:
        """What it says of a file; None if it died.

        Raises:
            TimeoutError: it said nothing for ``limit`` seconds.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None
        told: dict[str, object] | None = json.loads(line) if line else None
        return told

    def peak(self) -> int:
        """Its peak memory so far, MiB."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0
        lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(lines[0].split()[1]) // 1024 if lines else 0

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def run(count: int, seed: int, limit: float, keep: Path) -> Result:
    """Scan ``count`` mutated files."""
    result, rng = Result(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        sound = originals(Path(folder))
        child = Child()
        try:
            for number in range(count):
                ending, data = list(sound.items())[number % len(sound)]
                path = Path(folder) / f"{number}{ending}"
                path.write_bytes(mutated(data, rng))
                if not _one(child, path, limit, result):
                    (keep / path.name).write_bytes(path.read_bytes())
                    child.close()
                    child = Child()
                path.unlink()
        finally:
            child.close()
    return result


def _one(child: Child, path: Path, limit: float, result: Result) -> bool:
    """Scan one file; False if the child is of no use any more."""
    started = time.monotonic()
    try:
        told = child.scan(path, limit)
    except TimeoutError:
        result.hangs.append(path.name)
        return False
    result.slowest = max(result.slowest, time.monotonic() - started)
    result.peak = max(result.peak, child.peak())
    if told is None:
        result.crashes.append(path.name)
        return False
    result.told["read" if told["error"] is None else "named as damaged"] += 1
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=10.0)
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    result = run(options.count, options.seed, options.limit, options.keep)
    told = ", ".join(f"{count} {what}" for what, count in sorted(result.told.items()))
    sys.stdout.write(
        f"{options.count} inputs, seed {options.seed}: {told}; {len(result.crashes)} crashes {result.crashes}, "
        f"{len(result.hangs)} hangs {result.hangs}; slowest {result.slowest:.2f} s, peak memory {result.peak} MiB\n"
    )
    return 0 if result.good(options.memory) else 1


if __name__ == "__main__":
    sys.exit(main())
