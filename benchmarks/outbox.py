"""What the outbox costs on this machine's disk.

    python benchmarks/outbox.py [--folder DIR] [--json]

Three measurements, all with ``synchronous=FULL``: events committed one by one; events taken as fast as one thread can
hand them over, committed together by the writer; and 50 events a second through to a sink for ten seconds, with the
share of a core that all of it takes and the delay from taking an event to the sink's having it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from streamguard.delivery.dispatch import Consumer
from streamguard.delivery.events import EngineRef, Event, EventContext, EventFactory, Timeline
from streamguard.delivery.outbox import BOUND, Outbox, OutboxSettings
from streamguard.delivery.post import posting
from streamguard.delivery.vault import open_store
from streamguard.delivery.writer import OutboxWriter
from streamguard.frames import Segment, State
from streamguard.metrics import Metrics

ALONE = 300
TOGETHER = BOUND  # what memory takes at once
RATE, SECONDS = 50, 10


@dataclass
class Figures:
    """Rates each second; bytes of one event; share of a core; delays in milliseconds."""

    event_bytes: int = 0
    commits_alone: float = 0.0
    events_together: float = 0.0
    events_a_commit: float = 0.0
    core_at_50: float = 0.0
    delay_median_ms: float = 0.0
    delay_p95_ms: float = 0.0


class Clocked:
    """A sink that notes when it has an event."""

    name = "clocked"
    batch = 100

    def __init__(self) -> None:
        self.had: dict[str, float] = {}

    async def open(self) -> None:
        """It is."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Note the moment."""
        self.had |= dict.fromkeys((event["id"] for event in events), time.perf_counter())

    async def close(self) -> None:
        """Nothing to close."""


def made(count: int) -> list[Event]:
    """Segment events as they are in use."""
    engines = (EngineRef("face-yolov8n", "a" * 64, "int8"), EngineRef("deepfake-steady", "b" * 64, "bf16"))
    factory = EventFactory(EventContext("studio-1", "mwr82coq", "default", 0.0, engines))
    timeline = Timeline("rtcp", lambda pts: 1_700_000_000 + pts)
    segments = (
        Segment(f"door.1.{n}.1", "door", 1, n, 1.0, None, State.FLAGGED, None, 1.0, 2.0, 31) for n in range(count)
    )
    return [factory.segment("opened", segment, 9.0, timeline) for segment in segments]


def alone(folder: Path, events: Sequence[Event]) -> float:
    """Commits a second, one event each."""
    outbox = Outbox(open_store(folder / "alone.db", 1 << 28), Metrics(CollectorRegistry()))
    outbox.register(["sink"])
    started = time.perf_counter()
    for event in events:
        outbox.append(event)
    rate = len(events) / (time.perf_counter() - started)
    outbox.close()
    return rate


def together(folder: Path, events: Sequence[Event]) -> tuple[float, float]:
    """Events a second through the writer, and events a commit."""
    metrics = Metrics(CollectorRegistry())
    outbox = Outbox(open_store(folder / "together.db", 1 << 28), metrics)
    outbox.register(["sink"])
    with OutboxWriter(outbox, lambda: None):
        started = time.perf_counter()
        for event in events:
            outbox.take(event)
        while not outbox.pending("sink", 1) or outbox.pending("sink", len(events))[-1].sequence < len(events):
            time.sleep(0.005)
        rate = len(events) / (time.perf_counter() - started)
    commits = metrics.registry.get_sample_value("streamguard_outbox_commits_total", {"outcome": "done"}) or 1.0
    outbox.close()
    return rate, len(events) / commits


def steady(folder: Path) -> tuple[float, list[float]]:
    """Share of a core, and delays in seconds, at 50 events a second."""
    sink, taken = Clocked(), {}
    settings, metrics = OutboxSettings(), Metrics(CollectorRegistry())
    with posting(folder / "steady.db", settings, [Consumer(sink)], metrics, lambda name: None) as post:
        started, cpu = time.perf_counter(), time.process_time()
        for index, event in enumerate(made(RATE * SECONDS)):
            time.sleep(max(0.0, started + index / RATE - time.perf_counter()))
            taken[event["id"]] = time.perf_counter()
            post.take(event)
        share = (time.process_time() - cpu) / (time.perf_counter() - started)
    return share, [sink.had[name] - at for name, at in taken.items()]


def measure(folder: Path) -> Figures:
    """All three."""
    figures = Figures(event_bytes=len(json.dumps(made(1)[0], separators=(",", ":"))))
    figures.commits_alone = round(alone(folder, made(ALONE)), 1)
    rate, size = together(folder, made(TOGETHER))
    figures.events_together, figures.events_a_commit = round(rate, 1), round(size, 1)
    share, delays = steady(folder)
    figures.core_at_50 = round(share, 4)
    figures.delay_median_ms = round(1000 * statistics.median(delays), 2)
    figures.delay_p95_ms = round(1000 * statistics.quantiles(delays, n=20)[-1], 2)
    return figures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; a temporary one if not given")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder))
    if options.json:
        print(json.dumps(asdict(figures)))
        return
    print(f"one by one: {figures.commits_alone:.0f} commits/s of {figures.event_bytes} bytes")
    print(f"together: {figures.events_together:.0f} events/s, {figures.events_a_commit:.0f} a commit")
    print(
        f"50 events/s: {100 * figures.core_at_50:.1f} % of a core, "
        f"{figures.delay_median_ms:.1f} ms to the sink (median), {figures.delay_p95_ms:.1f} ms (p95)"
    )


if __name__ == "__main__":
    main()
