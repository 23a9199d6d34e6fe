"""Does the demo flag its forged passage, and nothing else?

    python benchmarks/demo_seeds.py --seeds 1-20 [--json]

For each seed one pass of the made stream runs through the whole chain as fast as it can. A seed is found
when a flagged segment overlaps the forged passage with IoU >= 0.3; any flagged segment that does not touch
the passage is a false alarm. Exits 1 under 18 found of 20 (the same share of fewer seeds) or on a false alarm.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from streamguard.config import Config
from streamguard.ingest.demo import truth
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard

SECONDS = 60.0
SHARE = 18 / 20
LEAST_IOU = 0.3


@dataclass(frozen=True)
class SeedResult:
    """One seed: the forged passage, what was flagged (start, end; s), the best overlap."""

    seed: int
    forged: tuple[float, float]
    flagged: tuple[tuple[float, float], ...]
    iou: float
    false_alarms: int


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two passages."""
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return max(0.0, shared) / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def watch_seed(seed: int) -> SeedResult:
    """Run one pass and hold its flagged segments against the truth."""
    flagged: list[tuple[float, float]] = []

    def collect(event: dict[str, object]) -> None:
        data = event["data"]
        if event["type"] == "streamguard.segment.closed.v1" and isinstance(data, dict) and data["state"] == "flagged":
            flagged.append((data["pts"]["start"], data["pts"]["end"]))

    guard = Guard(Config(), on_event=collect)
    guard.add(open_source(f"demo:?seed={seed}&duration={SECONDS:g}&pace=0"))
    report = guard.run()
    if report.failures:
        raise SystemExit(f"the demo failed: {report.failures}")
    passage = next((p["start"], p["end"]) for p in truth(seed, SECONDS) if p["forged"])
    ious = [overlap(segment, passage) for segment in flagged]
    return SeedResult(seed, passage, tuple(flagged), max(ious, default=0.0), sum(iou == 0 for iou in ious))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-20", help="a range, for instance 1-20")
    parser.add_argument("--json", action="store_true", help="one JSON line a seed")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    results = []
    for seed in range(int(first), int(last or first) + 1):
        result = watch_seed(seed)
        results.append(result)
        shown = " ".join(f"{start:.1f}-{end:.1f}" for start, end in result.flagged) or "nothing"
        start, end = result.forged
        text = f"seed {seed:2}: forged {start:.1f}-{end:.1f} s, flagged {shown}, IoU {result.iou:.2f}"
        print(json.dumps(asdict(result)) if options.json else text, flush=True)
    found = sum(result.iou >= LEAST_IOU for result in results)
    alarms = sum(result.false_alarms for result in results)
    print(f"found {found} of {len(results)} forged passages, {alarms} false alarms", file=sys.stderr)
    return 0 if found >= SHARE * len(results) and alarms == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
