"""Kill `streamguard watch` while a flagged segment is open: is anything lost, and how is the segment closed?

    python -m benchmarks.watch_kills [--rounds 10] [--seed 1] [--json]

In each round the command, as a user starts it, watches the made stream in real time, with an archive of JSON Lines, an
outbox, and ``--events -``, which this program reads: no sink sees an event before it is committed. Some time after
the forged face was flagged, SIGKILL. The next round is the restart, over the same outbox; a last, undisturbed run
delivers what waits. Then:

- every event that was read is in the archive, in that order; duplicates have one id and one content;
- each segment that was open ends as ``inconclusive: restart``, at its last event;
- what it is short of the stream's position, asked for over HTTP at the moment of the kill, is no more than an
  update's interval (``decision.every``, 1 s) and what a commit takes: ``missing``, seconds of stream time;
- ``PRAGMA integrity_check`` finds the outbox sound after every kill, before anybody else opened it.

Exits 1 if one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from streamguard.delivery.events import Event
from streamguard.server.auth import Role, TokenFile
from tests.outboxes import archived, sound

SOURCE = "demo:?seed=11"  # its forgery begins early, and the shipped engine finds it
OPEN = 6.0  # seconds of stream time after the opening, in which the kill falls; the forgery lasts for eight
MOST = 1.5  # seconds that may be missing: an update's interval, a sampled frame, a commit
PATIENCE = 1800.0  # seconds that anything may take on a busy machine
COMMAND = (sys.executable, "-c", "from streamguard.cli import main; main()")


@dataclass
class WatchReport:
    """What came out. ``problems`` is empty if every promise was kept."""

    rounds: int
    seen_before_a_kill: int = 0
    in_the_archive: int = 0
    lost: int = 0
    closed_by_restart: int = 0
    missing: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Watched:
    """The command over the outbox in ``folder``, and what it says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.events: list[Event] = []
        self._began = datetime.now(UTC)
        self._folder = folder
        self._said = folder / "said"
        root = str(Path(__file__).parents[1])
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "watch", "--config", "c.yaml", "--events", "-", *options],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # a kill may cut the last one short
                self.events.append(json.loads(line))

    def flagged(self) -> Event:
        """Wait until this run has opened a segment; what the one before left in the outbox comes first."""
        due = time.monotonic() + PATIENCE
        while time.monotonic() < due and self.process.poll() is None:
            for event in list(self.events):
                fresh = datetime.fromisoformat(event["time"]) >= self._began
                if fresh and event["type"] == "streamguard.segment.opened.v1":
                    return event
            time.sleep(0.01)
        self.process.kill()
        raise SystemExit(f"the forged face was not flagged: {self._said.read_text()}")

    def position(self, token: str) -> float:
        """Where the stream is, seconds of its own time."""
        address = self._said.read_text().partition("Metrics and health: ")[2].partition("/metrics")[0]
        request = urllib.request.Request(f"{address}/api/v1/streams", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            (stream,) = json.load(answer)["streams"]
        return float(stream["pts"])

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait for its end; it closes its pipe then."""
        self.process.wait(PATIENCE)
        self._thread.join(PATIENCE)


def kills(folder: Path, rounds: int, seed: int) -> WatchReport:
    """Kill so many runs over one outbox in ``folder``, and check what is left."""
    rng, report = random.Random(seed), WatchReport(rounds)
    token = TokenFile(folder / "tokens.json").add("benchmark", Role.VIEWER)
    (folder / "c.yaml").write_text(
        "sinks: [{name: archive, type: jsonl, path: archive.jsonl}]\noutbox: {path: outbox.db}\n"
        f"listen: 127.0.0.1:0\napi: {{tokens: tokens.json}}\nstreams: [{{name: made, uri: '{SOURCE}'}}]\n"
    )
    seen: list[Event] = []
    open_at: dict[str, float] = {}
    for turn in range(rounds):
        run = Watched(folder)
        opened = run.flagged()
        at = run.position(token)
        due = at + rng.uniform(0.0, OPEN)
        while at < due:
            time.sleep(0.1)  # the API answers so many requests a second, and no more
            at = run.position(token)
        run.kill()
        seen += run.events
        open_at[opened["data"]["segment_id"]] = at
        if (verdict := sound(folder)) != "ok":
            report.problems.append(f"round {turn + 1}: integrity_check says {verdict}")
    last = Watched(folder, "--duration", "1")
    last.end()
    if last.process.returncode != 0:
        report.problems.append(f"the last run ended with {last.process.returncode}")
    _check(archived(folder / "archive.jsonl"), seen, open_at, report)
    return report


def _check(arrived: Sequence[Event], seen: Sequence[Event], open_at: dict[str, float], report: WatchReport) -> None:
    first: dict[str, Event] = {}
    for event in arrived:
        if first.setdefault(event["id"], event) != event:
            report.problems.append(f"two events are called '{event['id']}'")
    wanted = list(dict.fromkeys(event["id"] for event in seen))
    report.seen_before_a_kill, report.in_the_archive = len(wanted), len(first)
    report.lost = sum(name not in first for name in wanted)
    names = set(wanted)
    if [name for name in first if name in names] != [name for name in wanted if name in first]:
        report.problems.append("the archive has another order")
    if report.lost:
        report.problems.append(f"{report.lost} events were committed and are not in the archive")
    for segment, at in open_at.items():
        story = [event for event in first.values() if event["data"].get("segment_id") == segment]
        ending = story[-1]
        if (ending["data"]["state"], ending["data"]["reason"]) != ("inconclusive", "restart"):
            report.problems.append(f"segment '{segment}' ends as {ending['data']['state']}")
            continue
        report.closed_by_restart += 1
        missing = round(at - ending["data"]["pts"]["end"], 3)
        report.missing.append(missing)
        if missing > MOST:
            report.problems.append(f"segment '{segment}' lacks its last {missing} s")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = kills(Path(folder), options.rounds, options.seed)
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        print(
            f"{report.rounds} kills of watch: {report.seen_before_a_kill} events seen, {report.in_the_archive} in the "
            f"archive, {report.lost} lost; {report.closed_by_restart} flagged segments closed by restart, "
            f"{max(report.missing, default=0.0):.2f} s missing at most"
        )
        for problem in report.problems:
            print(f"  {problem}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
