"""Kill the delivery at random moments: is anything lost that was committed, is the outbox sound, is the order kept?

    python benchmarks/crash.py [--rounds 50] [--seed 1] [--json]

In each round a child process makes segments on four streams as fast as its disk commits them, with two sinks: a
witness, which writes the id of each event that it is given into a file (no sink sees an event before it is
committed), and an archive of JSON Lines that fails three times out of four, so that events wait when the child is
killed with SIGKILL. A last, undisturbed run delivers what waits. Then:

- every event that the witness saw is in the archive; duplicates have one id and one content;
- per stream and run the archive has events in the order in which they were made;
- every segment that was opened is closed, by the child or as ``inconclusive: restart``;
- ``PRAGMA integrity_check`` finds the file sound after every kill, before anybody else opened it.

Exits 1 if one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from streamguard.delivery.dispatch import Consumer
from streamguard.delivery.events import Event, EventContext, EventFactory, SegmentKind, Timeline, run_name
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.post import posting
from streamguard.delivery.sinks import SinkError
from streamguard.delivery.sinks.jsonl import JsonlSink
from streamguard.frames import Segment, State
from streamguard.metrics import Metrics
from tests.outboxes import archived, sound

STREAMS = ("door", "gate", "yard", "hall")
LIFE: Sequence[SegmentKind] = ("opened", "updated", "updated", "closed")
# A fast disk makes more than the usual bound holds, and `updated` would go by design; that is tried in other tests.
ROOM = OutboxSettings(max_bytes=2**33)
GATHER = 200  # events that may wait before the child makes more: it runs as fast as its disk, not as its memory


class Witness:
    """Writes the id of each event that it sees, at once."""

    name = "witness"
    batch = 50

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def open(self) -> None:
        """It is."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """One write a batch; a process that is killed keeps what it has written."""
        os.write(self._file, "".join(f"{event['id']}\n" for event in events).encode())

    async def close(self) -> None:
        """Never: the next batch goes into the same file."""


class Flaky(JsonlSink):
    """An archive that takes one batch in four, and sometimes has written a part of what it says it has not."""

    rng = random.Random()

    async def deliver(self, events: Sequence[Event]) -> None:
        if self.rng.random() < 0.5:
            raise SinkError("away")
        await super().deliver(events)
        if self.rng.random() < 0.5:
            raise SinkError("cut off before it had answered")


def child(folder: Path) -> None:
    """Make segments until killed."""
    factory = EventFactory(EventContext("crash", run_name(time.time()), "default", 0.0, ()))
    consumers = [Consumer(Witness(folder / "witness"), live=True), Consumer(Flaky("archive", folder / "archive"))]
    with posting(folder / "outbox.db", ROOM, consumers, Metrics(), lambda name: None) as post:
        print("ready", flush=True)
        timeline = Timeline("arrival", lambda pts: 1_700_000_000 + pts)
        for number in count(1):
            for kind in LIFE:
                for stream in STREAMS:
                    ended = 9.0 if kind == "closed" else None
                    name = f"{stream}.1.{number}.1"
                    segment = Segment(name, stream, 1, number, 1.0, ended, State.FLAGGED, None, 1.0, 2.0, 9)
                    post.take(factory.segment(kind, segment, 9.0, timeline))
                while post.outbox.behind("witness") > GATHER:
                    time.sleep(0.001)


def drain(folder: Path) -> None:
    """A run without a crash: what waits goes out."""
    consumers = [Consumer(JsonlSink("archive", folder / "archive", durable=True), patience=None)]
    with posting(folder / "outbox.db", ROOM, consumers, Metrics(), lambda name: None) as post:
        while post.outbox.behind("archive"):
            time.sleep(0.01)


@dataclass
class CrashReport:
    """What came out. ``problems`` is empty if every promise was kept."""

    rounds: int
    seen_before_a_kill: int = 0
    in_the_archive: int = 0
    duplicates: int = 0
    segments: int = 0
    closed_by_restart: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


def crash(folder: Path, rounds: int, seed: int) -> CrashReport:
    """Kill ``rounds`` children over one outbox in ``folder``, and check what is left."""
    rng, report = random.Random(seed), CrashReport(rounds)
    for turn in range(rounds):
        _kill(folder, rng.uniform(0.0, 1.0))
        if (verdict := sound(folder)) != "ok":
            report.problems.append(f"round {turn + 1}: integrity_check says {verdict}")
    drain(folder)
    _check(folder, report)
    return report


def _kill(folder: Path, after: float) -> None:
    command = [sys.executable, __file__, "--child", str(folder)]
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the child did not start")
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


def _check(folder: Path, report: CrashReport) -> None:
    seen = (folder / "witness").read_text(encoding="utf-8").splitlines()
    events = archived(folder / "archive")
    first: dict[str, Event] = {}
    for event in events:
        if first.setdefault(event["id"], event) != event:
            report.problems.append(f"two events are called '{event['id']}'")
    missing = [name for name in dict.fromkeys(seen) if name not in first]
    report.seen_before_a_kill, report.in_the_archive = len(set(seen)), len(first)
    report.duplicates, report.lost = len(events) - len(first), len(missing)
    report.problems += [f"'{name}' was committed and is not in the archive" for name in missing[:5]]
    _check_segments(list(first.values()), report)


def _check_segments(events: list[Event], report: CrashReport) -> None:
    """In the order of the archive, each event once."""
    story: dict[str, list[str]] = {}
    latest: Counter[tuple[str, str]] = Counter()
    for event in events:
        data = event["data"]
        kind = event["type"].split(".")[2]
        restarted = data["reason"] == "restart"
        story.setdefault(data["segment_id"], []).append("restart" if restarted else kind)
        run = (data["segment_id"].partition(".")[0], data["stream"])
        if not restarted and data["track"] < latest[run]:
            report.problems.append(f"'{event['id']}' comes after events of track {latest[run]}")
        latest[run] = max(latest[run], data["track"])
    for name, kinds in story.items():
        whole = [*LIFE[: len(kinds) - 1], "restart" if kinds[-1] == "restart" else "closed"]
        if kinds != whole:
            report.problems.append(f"segment '{name}' has the events {kinds}")
    report.segments = len(story)
    report.closed_by_restart = sum(kinds[-1] == "restart" for kinds in story.values())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
    with tempfile.TemporaryDirectory() as folder:
        report = crash(Path(folder), options.rounds, options.seed)
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        print(
            f"{report.rounds} kills: {report.seen_before_a_kill} events seen, {report.in_the_archive} in the archive, "
            f"{report.lost} lost, {report.duplicates} duplicates; {report.segments} segments, "
            f"{report.closed_by_restart} closed by restart"
        )
        for problem in report.problems:
            print(f"  {problem}")
    raise SystemExit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
