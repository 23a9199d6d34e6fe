"""A fleet as a user has it: Ray on some machines, `streamguard fleet` on the head, live streams of a real RTSP server
whose picture shows a face and shows none in turn, so that segments open and close all the time. What befalls it is a
scene; what a scene returns are seconds that it took.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from streamguard.frames import U8
from streamguard.ingest.demo import photograph
from tests.fleet.machines import FleetClient, Machines, events, owners, token
from tests.fleet.network import Network
from tests.rtsp_server import RtspServer, write_clip

HEAD = "head"
FPS = 15
HEARD = 5.0  # seconds: a lease comes with the order that follows a node's report, a beat later


def appearing(seconds: float = 4.0) -> Iterator[U8]:
    """(240, 320, 3) RGB: a face for some seconds, none for as many."""
    face = np.ascontiguousarray(photograph()[20:260, 70:390])
    blank = np.asarray(cv2.resize(cv2.resize(face, (8, 5), interpolation=cv2.INTER_AREA), (320, 240)), np.uint8)
    for picture in (face, blank):
        for _ in range(round(seconds * FPS)):
            yield picture


@dataclass
class Fleet:
    """Runs as long as the block lasts. ``engine``: a classifier that flags every face."""

    folder: Path
    engine: Path
    nodes: Sequence[str] = ("a", "b", "c")
    streams: int = 9
    lease: float = 10.0
    settings: Mapping[str, str] = field(default_factory=dict)  # of Ray
    net: Network | None = None  # in whose namespaces the nodes run that have a name there
    machines: Machines = field(init=False)
    client: FleetClient = field(init=False)
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.machines = Machines(self.folder, self.settings)
        self._stack = ExitStack()
        self._token = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            (self.folder / "events").mkdir()
            self._token = token(self.folder)
            clip = write_clip(self.folder / "clip.units", appearing(), fps=FPS, gop=FPS)
            self._server = stack.enter_context(RtspServer(clip, fps=FPS))
            for name in () if self.net is None else self.net.names:  # a camera on either side, under one address
                prefix = self.net.prefix(name)
                stack.enter_context(RtspServer(clip, fps=FPS, port=self._server.port, prefix=prefix))
            stack.enter_context(self.machines)
            stack.callback(self._kill_head)
            self.machines.start(HEAD, address=self._address(HEAD), cpus=0)
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(self._start, self.nodes))
            self.configure()
            self.begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _start(self, node: str) -> None:
        prefix = self.net.prefix(node) if self.net is not None and node in self.net.names else ()
        self.machines.start(node, address=self._address(node), prefix=prefix)

    def _address(self, node: str) -> str:
        if self.net is None:
            return "127.0.0.1"
        return self.net.address(node) if node in self.net.names else self.net.here

    def configure(self, streams: int | None = None, sinks: str | None = None, **changes: Any) -> None:
        """Write the configuration; ``sinks``: another path for the JSON Lines."""
        path = sinks or f"{self.folder}/events/{{node}}.jsonl"
        room = -(-self.streams // (len(self.nodes) - 1))  # one node may be lost
        lines = [
            "listen: 127.0.0.1:0",
            f"api: {{tokens: {self.folder}/tokens.json}}",
            f"classifier: {{engine: {self.engine}}}",
            f'outbox: {{path: "{self.folder}/{{node}}/outbox.db"}}',
            f'sinks: [{{type: jsonl, name: file, path: "{path}"}}]',
            f"fleet: {{address: '{self._address(HEAD)}:{self.machines.port}', lease: {self.lease}, capacity: {room}}}",
            *(f"{key}: {value}" for key, value in changes.items()),
            "streams:",
            *(
                f"- {{name: s{n}, uri: '{self._server.url}'}}"
                for n in range(self.streams if streams is None else streams)
            ),
        ]
        (self.folder / "streamguard.yaml").write_text("\n".join(lines) + "\n")

    def begin(self) -> None:
        """Start the head's command, and wait until it serves."""
        with (self.folder / "head.log").open("a") as errors:
            self.process = self.machines.spawn(HEAD, "fleet", "--config", "streamguard.yaml", stderr=errors)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "/api/v1/fleet" in line, f"the head did not start: {line!r} {self.log()}"
        base = next(word for word in line.split() if word.startswith("http")).removesuffix("/metrics")
        self.client = FleetClient(base, self._token)

    def end(self) -> None:
        """SIGTERM to the head's command."""
        assert self.process is not None
        self.process.terminate()
        out, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, f"{out} {self.log()}"

    def _kill_head(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def log(self) -> str:
        """What the head has said."""
        return (self.folder / "head.log").read_text()

    def events(self) -> list[dict[str, Any]]:
        """What all nodes' sinks have."""
        return events(self.folder / "events")

    def all_run(self, state: dict[str, Any]) -> bool:
        """Whether every stream is watched, once."""
        return state["running"] == len(owners(state)) == state["total"]

    def closed(self) -> Counter[str]:
        """How many segments of each stream have closed."""
        return Counter(e["data"]["stream"] for e in self.events() if e["type"].endswith("segment.closed.v1"))

    def until_all_close_segments(self) -> None:
        """Every stream closes one more."""
        before = self.closed()
        self.client.until(
            lambda state: all(self.closed()[s] > before[s] for s in (f"s{n}" for n in range(self.streams)))
        )


def sessions(fleet: Fleet, node: str) -> Counter[str]:
    """How often a node said that a stream is down."""
    return Counter(
        event["data"]["stream"]
        for event in fleet.events()
        if event["type"].endswith("stream.down.v1") and event["source"].startswith(f"/streamguard/{node}/")
    )


def up(state: dict[str, Any], name: str) -> bool:
    """Whether a node can be used."""
    return any(node["name"] == name and node["state"] == "up" for node in state["nodes"])


def watched_twice(fleet: Fleet) -> list[str]:
    """Streams that one node said to be up before another said that they are down. All clocks here are one."""
    found, watching = [], dict[str, set[str]]()
    told = [event for event in fleet.events() if event["type"].endswith((".stream.up.v1", ".stream.down.v1"))]
    for event in sorted(told, key=lambda event: event["time"]):
        at = watching.setdefault(event["data"]["stream"], set())
        node = event["source"].split("/")[2]
        if event["type"].endswith(".up.v1"):
            at.add(node)
        else:
            at.discard(node)
        if len(at) > 1:
            found.append(f"{event['data']['stream']} at {event['time']}: {sorted(at)}")
    return found


def kill_a_node(fleet: Fleet, node: str) -> dict[str, float]:
    """Seconds from the kill until Ray says that the node is dead, and from there until all its streams run again."""
    had = [stream for stream, owner in owners(fleet.client.until(fleet.all_run)).items() if owner == node]
    killed = time.monotonic()
    fleet.machines.kill(node)
    fleet.client.until(lambda state: all(each["name"] != node or each["state"] == "lost" for each in state["nodes"]))
    dead = time.monotonic()
    state = fleet.client.until(fleet.all_run)
    again = time.monotonic()
    assert had
    assert all(owners(state)[stream] not in (None, node) for stream in had)
    return {"streams": len(had), "declared": dead - killed, "again_after": again - dead, "total": again - killed}


def return_a_node(fleet: Fleet, node: str) -> None:
    """It is started again; what its outbox kept goes out."""
    fleet.machines.again(node)
    fleet.client.until(lambda state: up(state, node))
    fleet.client.until(lambda state: not unclosed(fleet, node) or running_on(state, node))


def running_on(state: dict[str, Any], node: str) -> bool:
    """Whether a node watches something, so that it has open segments again."""
    return node in owners(state).values()


def unclosed(fleet: Fleet, node: str | None = None) -> set[str]:
    """Segments that were opened and not closed."""
    kinds: dict[str, set[str]] = {"opened": set(), "closed": set()}
    for event in fleet.events():
        if ".segment." in event["type"] and (node is None or event["source"].startswith(f"/streamguard/{node}/")):
            kind = event["type"].split(".")[2]
            kinds.setdefault(kind, set()).add(f"{event['source']} {event['data']['segment_id']}")
    return kinds["opened"] - kinds["closed"]


def closed_twice(fleet: Fleet) -> list[str]:
    """Segments with two closings that a consumer could not tell for one by source and id."""
    ids: dict[str, set[str]] = {}
    for event in fleet.events():
        if event["type"].endswith("segment.closed.v1"):
            ids.setdefault(f"{event['source']} {event['data']['segment_id']}", set()).add(event["id"])
    return [segment for segment, found in ids.items() if len(found) > 1]


def replace_head(fleet: Fleet, lease: float) -> None:
    """The head's command ends and begins with another lease, which every node has heard of."""
    fleet.end()
    fleet.lease = lease
    fleet.configure()
    fleet.begin()
    fleet.client.until(fleet.all_run)
    time.sleep(HEARD)


def restart_the_head(fleet: Fleet) -> dict[str, float]:
    """Kill -9 of the whole head machine, Ray's head and ours; seconds until both are back and know of all streams."""
    killed = time.monotonic()
    fleet.machines.kill(HEAD)
    fleet._kill_head()
    fleet.machines.again(HEAD)
    fleet.begin()
    back = time.monotonic()
    fleet.client.until(fleet.all_run)
    return {"back": back - killed, "found_again": time.monotonic() - back, "total": time.monotonic() - killed}


def drop_all_but_one(fleet: Fleet) -> str:
    """SIGHUP with one stream left: the others end, and every segment of theirs is closed. The one that is left."""
    assert fleet.process is not None
    fleet.configure(streams=1)
    fleet.process.send_signal(signal.SIGHUP)
    fleet.client.until(lambda state: state["running"] == state["total"] == 1)
    left = "s0"
    fleet.client.until(lambda state: all(f"/{left} " in segment for segment in unclosed(fleet)))
    return left


def cut_off(fleet: Fleet, net: Network, node: str, *, ended: bool = False) -> dict[str, float]:
    """A node's cable is pulled until its streams have stopped there and run elsewhere, and is plugged in again.

    ``ended``: Ray declares the node dead meanwhile, and ends it once it can tell it; it is started again then, as a
    service manager would. Seconds from the pull.
    """
    state = fleet.client.until(fleet.all_run)
    had = {stream for stream, owner in owners(state).items() if owner == node}
    assert had
    pulled = time.monotonic()
    net.pull(node)
    # The head hears nothing of it any more, but there is a witness: what the node writes to its disk.
    fleet.client.until(lambda state: set(sessions(fleet, node)) >= had)
    stopped = time.monotonic()
    fleet.client.until(lambda state: fleet.all_run(state) and node not in owners(state).values())
    elsewhere = time.monotonic()
    net.plug(node)
    if ended:
        gone = fleet.machines.machines[node]
        fleet.client.until(lambda state: not any("raylet" in name for name in fleet.machines.commands(gone)))
        fleet.machines.kill(node)
        fleet.machines.again(node)
    fleet.client.until(lambda state: up(state, node))
    return {"stopped_there": stopped - pulled, "run_elsewhere": elsewhere - pulled}
