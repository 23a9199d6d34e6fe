"""How close the whole chain comes to what its parts allow on this machine.

    python benchmarks/roofline.py [--streams 1,2,4,8,16,24] [--faces 1,3] [--every 1,5,25] [--rounds 3] [--json]

Files of 720p25 H.264 run through one Guard as fast as they can; ``limit`` and its terms are those of ``streamguard
bench``. The decoder alone is timed again before every row, since a machine's speed drifts. Target: ratio >= 0.90 from 4
streams on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamguard.bench import Costs, Runner, decode_speed, machine, make_clip, measure_costs, on_backend
from streamguard.config import Config

TARGET = 0.90
FROM = 4
COLUMNS = ("streams", "faces", "every", "fps", "limit_fps", "ratio", "cpu_ratio", "classified", "decode_fps")


def numbers(text: str) -> list[int]:
    """``1,4,8`` as whole numbers."""
    return [int(part) for part in text.split(",")]


def rows_of(clip: Path, config: Config, costs: Costs, faces: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One clip at one ``every``, for all numbers of streams."""
    rows = []
    with Runner(config) as runner:
        for streams in options.streams:
            decode_fps, decode_ms = decode_speed(clip)
            terms = replace(costs.terms, decode=decode_ms)
            row = runner.row(clip, streams, terms, options.rounds, faces) | {"decode_fps": round(decode_fps, 1)}
            rows.append(row)
            if not options.json:
                print("".join(f"{row[name]:>12}" for name in COLUMNS), flush=True)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=numbers, default=[1, 2, 4, 8, 16, 24])
    parser.add_argument("--faces", type=numbers, default=[1, 3])
    parser.add_argument("--every", type=numbers, default=[1, 5, 25])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="of each clip")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = on_backend(Config(), options.backend)
    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "rows": []}
    if not options.json:
        print(f"{report['machine']}, {report['date']}\n" + "".join(f"{name:>12}" for name in COLUMNS))
    with tempfile.TemporaryDirectory(prefix="streamguard-roofline-") as folder:
        for faces in options.faces:
            clip = make_clip(Path(folder) / f"{faces}.mp4", faces=faces, seconds=options.seconds)
            costs = measure_costs(clip, base)
            report[f"terms_ms_{faces}_faces"] = {name: round(value, 3) for name, value in asdict(costs.terms).items()}
            for every in options.every:
                sampling = replace(base.sampling, detect_every=every)
                config = base.model_copy(update={"sampling": sampling})
                report["rows"] += rows_of(clip, config, costs, faces, options)
    judged = [row for row in report["rows"] if row["streams"] >= FROM]
    report["target"] = {"ratio": TARGET, "from_streams": FROM, "reached": sum(r["ratio"] >= TARGET for r in judged)}
    if options.json:
        print(json.dumps(report))
    elif judged:
        print(f"ratio >= {TARGET} in {report['target']['reached']} of {len(judged)} rows from {FROM} streams on")


if __name__ == "__main__":
    main()
