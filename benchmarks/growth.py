"""What a stream more, and a face more, costs: frames a second, CPU time and memory.

    python benchmarks/growth.py [--streams 1,2,4,8,16,32] [--faces 0,1,3,10] [--seconds 12] [--json]

Files of 720p25 H.264 run through one Guard as fast as they can; each point is a process of its own, so that its peak
of memory is its own. First the streams grow, with one face each, then the faces, with four streams. Targets: the CPU
time a frame doesn't rise with the streams, and a 720p stream takes at most 40 MB beyond the first one's process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamguard.bench import Runner, machine, make_clip
from streamguard.config import Config
from streamguard.heap import keep_large_pieces_apart

COLUMNS = ("streams", "faces", "fps", "cpu_ms_frame", "peak_mb")
STREAMS = 4


def numbers(text: str) -> list[int]:
    """``1,4,8`` as whole numbers."""
    return [int(part) for part in text.split(",")]


def point(clip: Path, streams: int) -> dict[str, Any]:
    """In the child: one run, after a short one that warms up what is compiled lazily."""
    with Runner(Config()) as runner:
        runner.run(clip, 1)
        run = runner.run(clip, streams)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "streams": streams,
        "fps": round(run.fps, 1),
        "cpu_ms_frame": round(run.cpu_ms, 3),
        "classified": round(run.classified, 3),
        "peak_mb": round(peak, 1),
    }


def measured(clip: Path, streams: int, faces: int, quiet: bool) -> dict[str, Any]:
    """A point in a process of its own."""
    command = [sys.executable, __file__, "--point", str(clip), "--streams", str(streams)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout) | {"faces": faces}
    if not quiet:
        print("".join(f"{row[name]:>14}" for name in COLUMNS), flush=True)
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--faces", type=numbers, default=[0, 1, 3, 10])
    parser.add_argument("--seconds", type=float, default=12, help="of each clip")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--point", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        keep_large_pieces_apart()  # as the command does
        print(json.dumps(point(options.point, options.streams[0])))
        return
    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    if not options.json:
        print(f"{report['machine']}, {report['date']}\n" + "".join(f"{name:>14}" for name in COLUMNS))
    with tempfile.TemporaryDirectory(prefix="streamguard-growth-") as folder:
        one = make_clip(Path(folder) / "1.mp4", seconds=options.seconds)
        report["streams"] = [measured(one, streams, 1, options.json) for streams in options.streams]
        report["faces"] = []
        for faces in options.faces:
            clip = make_clip(Path(folder) / f"{faces}.mp4", faces=faces, seconds=options.seconds)
            report["faces"].append(measured(clip, STREAMS, faces, options.json))
    first, last = report["streams"][0], report["streams"][-1]
    if last["streams"] > first["streams"]:
        more = last["streams"] - first["streams"]
        report["mb_a_stream"] = round((last["peak_mb"] - first["peak_mb"]) / more, 1)
        report["cpu_rise"] = round(last["cpu_ms_frame"] / first["cpu_ms_frame"], 3)
    if options.json:
        print(json.dumps(report))
    elif "mb_a_stream" in report:
        print(f"a stream more: {report['mb_a_stream']} MB (target: 40 at most)")
        print(f"CPU time a frame, {last['streams']} streams against {first['streams']}: x{report['cpu_rise']}")


if __name__ == "__main__":
    main()
