"""How long it takes until streams run again when a node is killed, the head is killed, a cable is pulled.

    python -m benchmarks.fleet [--rounds 3] [--streams 9] [--lease 10] [--json]

A real Ray cluster on this machine: a head that watches nothing and three nodes, live 320x240 streams over RTSP whose
face comes and goes, a classifier that flags every face. Each round kills one of the nodes (SIGKILL to all that runs
there), starts it again, and then kills the whole head machine. Afterwards every segment that was opened has to be
closed exactly once. With root, a cable is pulled twice: once Ray is told to wait for longer than that lasts, once it
declares the node dead; one owner of each stream has to be left.

Targets: all streams of a killed node run again within 15 s of the moment in which Ray declares it dead; no segment is
lost, none closed twice; no stream of a node that was left alone is interrupted while the head is away.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamguard.bench import machine
from tests.engines import flagging
from tests.fleet import scenes
from tests.fleet.machines import HEALTH, owners
from tests.fleet.network import Network
from tests.rtsp_server import missing

AGAIN = 15.0
HEAD_LEASE = 120.0


@contextmanager
def folder() -> Iterator[Path]:
    """With a short name: Ray's sockets lie in it."""
    made = Path(tempfile.mkdtemp(prefix="sg", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def rounds(count: int, streams: int, lease: float) -> dict[str, Any]:
    """Kills of nodes and of the head."""
    with folder() as where, scenes.Fleet(where, flagging(where), streams=streams, lease=lease) as fleet:
        kills, heads, interrupted = [], [], 0
        for number in range(count):
            fleet.client.until(fleet.all_run)
            fleet.until_all_close_segments()
            node = fleet.nodes[number % len(fleet.nodes)]
            kills.append(scenes.kill_a_node(fleet, node))
            scenes.return_a_node(fleet, node)
            scenes.replace_head(fleet, HEAD_LEASE)
            before = {name: scenes.sessions(fleet, name) for name in fleet.nodes}
            heads.append(scenes.restart_the_head(fleet))
            after = {name: scenes.sessions(fleet, name) for name in fleet.nodes}
            interrupted += sum((after[name] - before[name]).total() for name in fleet.nodes)
            scenes.replace_head(fleet, lease)
        segments = finish(fleet)
    return {
        "streams": streams,
        "lease": lease,
        "health_checks": HEALTH,
        "kills": kills,
        "heads": heads,
        "interrupted": interrupted,
        **segments,
        "targets": {
            "again": all(kill["again_after"] <= AGAIN for kill in kills),
            "no_segment_lost": segments["unclosed"] == 0,
            "none_twice": segments["closed_twice"] == 0,
            "none_interrupted": interrupted == 0,
        },
    }


def finish(fleet: scenes.Fleet) -> dict[str, int]:
    """Every stream but one is dropped: what became of all the segments."""
    left = scenes.drop_all_but_one(fleet)
    closed = sum(fleet.closed().values())
    open_still = [segment for segment in scenes.unclosed(fleet) if f"/{left} " not in segment]
    return {"segments": closed, "unclosed": len(open_still), "closed_twice": len(scenes.closed_twice(fleet))}


def partition(*, declared: bool) -> dict[str, Any]:
    """A cable is pulled, and plugged in again; ``declared``: for so long that Ray declares the node dead."""
    settings = {} if declared else {"RAY_health_check_failure_threshold": "1000"}
    with (
        folder() as where,
        Network(("b",)) as net,
        scenes.Fleet(where, flagging(where), nodes=("a", "b"), streams=4, settings=settings, net=net) as fleet,
    ):
        seconds = scenes.cut_off(fleet, net, "b", ended=declared)
        state = fleet.client.until(fleet.all_run)
        return seconds | {
            "ray_declared_it_dead": declared,
            "owners": sorted(set(map(str, owners(state).values()))),
            "watched_twice": len(scenes.watched_twice(fleet)),
        }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=9)
    parser.add_argument("--lease", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    report["fleet"] = rounds(options.rounds, options.streams, options.lease)
    report["partitions"] = (
        [partition(declared=declared) for declared in (False, True)] if os.geteuid() == 0 else "skipped: not root"
    )
    print(json.dumps(report, indent=1) if options.json else summary(report))


def summary(report: dict[str, Any]) -> str:
    """As people read it."""
    fleet, lines = report["fleet"], [f"{report['machine']}, {report['date']}"]
    for name, key, what in (
        ("kills", "declared", "node killed -> Ray declares it dead"),
        ("kills", "again_after", "declared dead -> all its streams run"),
        ("kills", "total", "node killed -> all its streams run"),
        ("heads", "total", "head machine killed -> back, all streams known"),
    ):
        values = [each[key] for each in fleet[name]]
        lines.append(f"{what}: median {statistics.median(values):.1f} s, worst {max(values):.1f} s, n {len(values)}")
    lines.append(
        f"{fleet['segments']} segments closed, {fleet['unclosed']} left open, {fleet['closed_twice']} closed twice; "
        f"{fleet['interrupted']} streams interrupted while the head was away"
    )
    if isinstance(report["partitions"], str):
        lines.append(f"partitions: {report['partitions']}")
    else:
        lines += [f"partition: {json.dumps(each)}" for each in report["partitions"]]
    lines.append(f"targets: {json.dumps(fleet['targets'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
