"""What a fleet costs its head, from 10 to 100,000 streams on 1 to 5,000 nodes.

    python benchmarks/scaling.py [--most-streams 100000] [--plots docs/scaling] [--json]

The head's own code runs here, placement, leases and orders, with nodes that answer at once and watch nothing. What is
measured is the CPU time of one core; moves and messages are counted. One row a size: the streams are given out for the
first time, a node is lost, a node comes, a node turns out to take a tenth less than it has, and beats pass in which
nothing changes. Bytes of a message are those of its pickle, which is what Ray sends. ``--plots`` needs matplotlib.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from streamguard.bench import machine
from streamguard.config import Config, StreamConfig
from streamguard.fleet.head import Head
from streamguard.fleet.messages import Grant, Order, Report
from streamguard.ownership import FleetSettings

SIZES = ((10, 1), (100, 5), (1_000, 50), (10_000, 500), (25_000, 1_250), (50_000, 2_500), (100_000, 5_000))
SPARE = 1.25  # capacity over streams
BEATS = 5  # quiet ones, of which the median counts
MICRO = 1e6

_T = TypeVar("_T")


@dataclass
class Row:
    """Seconds of CPU time, streams that changed hands, bytes a message."""

    streams: int
    nodes: int
    first_seconds: float
    lost_seconds: float
    lost_moves: int
    added_moves: int
    over_seconds: float
    over_moves: int
    beat_seconds: float
    messages_per_second: float
    order_bytes: float
    report_bytes: float
    first_order_bytes: float


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Nodes:
    """Nodes that do at once what they are told."""

    def __init__(self, head: Head, capacity: int) -> None:
        self.head = head
        self.held: dict[str, dict[str, Grant]] = {}
        self.capacity: dict[str, int] = {}
        self._applied: dict[str, int] = {}
        self._most = capacity
        self._version = head.settings.version

    def add(self, name: str) -> None:
        """A node joins."""
        self.held[name], self._applied[name], self.capacity[name] = {}, 0, self._most
        self.head.admit(name, name, name)

    def answer(self, name: str, order: Order) -> Report:
        """What a node says to an order."""
        if order.streams is not None:
            self.held[name] = {stream: assigned.grant for stream, assigned in order.streams.items()}
            self._applied[name] = order.number
        return Report(
            boot=name,
            stamp=0.0,
            term=order.term,
            applied=self._applied[name],
            held=self.held[name],
            version=self._version,
            capacity=self.capacity[name],
            states=dict.fromkeys(self.held[name], "clear"),
        )

    def beat(self) -> tuple[float, list[Order], list[Report]]:
        """An order to each node, its report, and a decision: the head's CPU seconds, and what was said."""
        names = list(self.held)
        asked, orders = cpu(lambda: [self.head.order(name) for name in names])
        reports = [self.answer(name, order) for name, order in zip(names, orders, strict=True)]
        heard, _ = cpu(lambda: self._hear(names, reports))
        decided, _ = cpu(self.head.turn)
        return asked + heard + decided, orders, reports

    def _hear(self, names: list[str], reports: list[Report]) -> None:
        for name, report in zip(names, reports, strict=True):
            self.head.report(name, report)


def cpu(call: Callable[[], _T]) -> tuple[float, _T]:
    """CPU seconds that a call takes, and what it gives; not those of the collector, which what came before has due."""
    gc.collect()
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


def measure(streams: int, nodes: int) -> Row:
    """One size."""
    clock, fleet = Clock(), FleetSettings()
    config = Config(
        streams=tuple(StreamConfig(name=f"camera-{n:06}", uri=f"rtsp://10.0.0.1/{n}") for n in range(streams)),
        fleet=fleet,
    )
    head = Head(config, term=1, clock=clock)
    fleet_nodes = Nodes(head, round(streams / nodes * SPARE))
    for number in range(nodes):
        fleet_nodes.add(f"node-{number:04}")
    head.expect(list(fleet_nodes.held), strangers=False)
    for name in fleet_nodes.held:
        head.report(name, fleet_nodes.answer(name, head.order(name)))
    first, _ = cpu(head.turn)
    _, orders, _ = fleet_nodes.beat()
    first_order = statistics.mean(len(pickle.dumps(order)) for order in orders)
    lost, lost_moves = lose_a_node(fleet_nodes) if nodes > 1 else (0.0, 0)
    clock.now += 2 * fleet.lease  # the others report before it is looked who is silent
    for _ in range(2):
        fleet_nodes.beat()
    fleet_nodes.add("node-new")
    before = sum(head.placement.moves.values())
    for _ in range(2):
        fleet_nodes.beat()
    added_moves = sum(head.placement.moves.values()) - before
    over, over_moves = overload_a_node(fleet_nodes, clock, fleet.patience)
    beats = [fleet_nodes.beat() for _ in range(BEATS + 2)][2:]  # the first two carry what has moved
    _, orders, reports = beats[-1]
    return Row(
        streams=streams,
        nodes=nodes,
        first_seconds=first,
        lost_seconds=lost,
        lost_moves=lost_moves,
        added_moves=added_moves,
        over_seconds=over,
        over_moves=over_moves,
        beat_seconds=statistics.median(seconds for seconds, _, _ in beats),
        messages_per_second=2 * nodes / fleet.beat,
        order_bytes=statistics.mean(len(pickle.dumps(order)) for order in orders),
        report_bytes=statistics.mean(len(pickle.dumps(report)) for report in reports),
        first_order_bytes=first_order,
    )


def lose_a_node(nodes: Nodes) -> tuple[float, int]:
    """CPU seconds until its streams have other owners, and how many moved."""
    del nodes.held["node-0000"]

    def lose() -> int:
        nodes.head.gone("node-0000")
        return len(nodes.head.turn())

    return cpu(lose)


def overload_a_node(nodes: Nodes, clock: Clock, patience: float) -> tuple[float, int]:
    """The fullest node takes a tenth less than it has: CPU seconds of the decision, and how many moved."""
    fullest = max(nodes.held, key=lambda name: len(nodes.held[name]))
    nodes.capacity[fullest] = len(nodes.held[fullest]) * 9 // 10
    nodes.beat()
    clock.now += patience
    seconds, moves = cpu(nodes.head.turn)
    return seconds, len(moves)


def plot(rows: list[Row], prefix: str) -> list[Path]:
    """Three pictures: placement, a beat of the head, moves of a failure."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    streams = [row.streams for row in rows]
    made = []
    for name, title, lines in (
        (
            "placement",
            "CPU seconds of a decision",
            {
                "all streams for the first time": [row.first_seconds for row in rows],
                "one node lost": [row.lost_seconds for row in rows],
            },
        ),
        ("beat", "CPU seconds of a quiet beat (one a second)", {"head": [row.beat_seconds for row in rows]}),
        (
            "moves",
            "streams that move",
            {"one node lost": [row.lost_moves for row in rows], "one node added": [row.added_moves for row in rows]},
        ),
    ):
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        for label, values in lines.items():
            axes.plot(streams, values, marker="o", label=label)
        axes.set_xscale("log")
        axes.set_yscale("symlog" if name == "moves" else "log")
        axes.set_xlabel("streams (20 a node)")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend()
        made.append(Path(f"{prefix}-{name}.png"))
        figure.savefig(made[-1], dpi=110)
        plt.close(figure)
    return made


def table(rows: list[Row]) -> str:
    """As docs/scaling.md has it."""
    columns = (
        *("streams", "nodes", "all placed", "a stream", "a node lost", "moves", "a node added: moves"),
        *("over by a tenth: moves", "a quiet beat", "messages/s", "kB/s"),
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        rate = row.nodes * (row.order_bytes + row.report_bytes) / 1000
        lines.append(
            f"| {row.streams:,} | {row.nodes:,} | {1000 * row.first_seconds:.1f} ms | "
            f"{MICRO * row.first_seconds / row.streams:.1f} us | {1000 * row.lost_seconds:.2f} ms | {row.lost_moves} | "
            f"{row.added_moves} | {row.over_moves} | {1000 * row.beat_seconds:.1f} ms | "
            f"{row.messages_per_second:,.0f} | {rate:,.0f} |"
        )
    return "\n".join(lines)


def report(rows: list[Row]) -> dict[str, Any]:
    """All of it."""
    return {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "rows": [asdict(row) for row in rows]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-streams", type=int, default=100_000)
    parser.add_argument("--plots", metavar="PREFIX")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(streams, nodes) for streams, nodes in SIZES if streams <= options.most_streams]
    if options.plots:
        plot(rows, options.plots)
    print(json.dumps(report(rows), indent=1) if options.json else f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
