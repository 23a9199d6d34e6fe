"""Live streams on a real RTSP server that is killed, frozen, locked and made to lose packets.

Every test has a neighbour: a second stream from a server that nobody touches, which must not notice.
"""

import gc
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from av.container import InputContainer
from prometheus_client import CollectorRegistry, generate_latest

from streamguard.config import Config
from streamguard.frames import State
from streamguard.heap import keep_large_pieces_apart
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.live import FeedSettings
from streamguard.ingest.reconnect import BackoffSettings
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.pixels import rgb_of
from streamguard.vision.sampler import SamplerSettings
from tests.media import patterns, read_stamp
from tests.rtsp_server import RtspServer, free_port, require, write_clip, write_raw

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# As shipped, but for the wait after wrong credentials (a minute) and the frozen picture (10 s).
FEED = FeedSettings(backoff=BackoffSettings(denied=1.5))
MOST_STALL = 0.2  # seconds that a neighbour may stall: five frames


@pytest.fixture(autouse=True)
def _servers():
    require()


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """Two seconds of the demo's camera, 640x360, a keyframe a second."""
    with open_source("demo:?seed=5&duration=2&pace=0").open(1) as connection:
        frames = [cv2.resize(rgb_of(frame.picture), (640, 360)) for frame in connection]
    return write_clip(tmp_path_factory.mktemp("clips") / "faces.units", frames)


class Watch:
    """A Guard over live streams, with what it said and how evenly the neighbour's frames came."""

    def __init__(self, config=None, feed=FEED, guard=Guard):
        self.metrics = Metrics(CollectorRegistry())
        self.events = []
        self.guard = guard(config or Config(), metrics=self.metrics, on_event=self.events.append, feed=feed)
        self._stalls = {}
        self._ended = threading.Event()
        self._observer = threading.Thread(target=self._observe)

    def __enter__(self):
        self.guard.__enter__()
        self._observer.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._observer.join()
        self.guard.__exit__(*exception)

    def add(self, name, server, **options):
        self.guard.add(open_source(server.url, name=name, options=SourceOptions(**options)))

    def value(self, metric, stream, **labels):
        name = f"streamguard_{metric}"
        return self.metrics.registry.get_sample_value(name, {"stream": stream, **labels}) or 0.0

    def frames(self, stream):
        return self.value("frames_decoded_total", stream)

    def kinds(self, stream):
        return [
            event["type"].split(".")[2]
            for event in self.events
            if event["data"]["stream"] == stream and ".stream." in event["type"]
        ]

    def state(self, stream):
        snapshot = self.guard.snapshot(stream)
        return (snapshot.state, snapshot.reason)

    def reading(self, stream):
        return next(each.reading for each in self.guard.streams() if each.source.name == stream)

    def reconnects(self, stream):
        found = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == "streamguard_stream_reconnects_total" and sample.labels["stream"] == stream:
                    found[sample.labels["reason"]] = sample.value
        return found

    def until(self, condition, seconds=30.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.events[-3:], self.metrics_text())
            time.sleep(0.02)

    def until_more(self, stream, frames=10, seconds=30.0):
        before = self.frames(stream)
        self.until(lambda: self.frames(stream) >= before + frames, seconds)

    def metrics_text(self):
        return generate_latest(self.metrics.registry).decode()

    def calm(self, stream):
        """Forget the stalls so far: what starts on a machine of two cores is felt by all."""
        self._stalls.pop(stream, None)

    def worst_stall(self, stream):
        """Longest time without a new frame of a stream, seconds, since it was last :meth:`calm`."""
        return self._stalls[stream][2]

    def _observe(self):
        while not self._ended.wait(0.01):
            now = time.monotonic()
            for event in list(self.events):
                stream = event["data"]["stream"]
                frames = self.frames(stream)
                since, seen, worst = self._stalls.get(stream, (now, frames, 0.0))
                self._stalls[stream] = (now if frames != seen else since, frames, max(worst, now - since))


@pytest.fixture
def neighbour(faces):
    with RtspServer(faces) as server:
        yield server


def test_a_killed_server_is_found_again(faces, neighbour):
    with RtspServer(faces) as server, Watch() as watch:
        watch.add("cam", server)
        watch.add("next", neighbour)
        watch.until_more("cam", 25)
        watch.until_more("next", 25)
        watch.until(lambda: watch.state("cam")[0] is State.CLEAR)
        watch.calm("next")
        server.kill()
        watch.until(lambda: watch.kinds("cam")[-1] == "down")
        assert watch.state("cam") == (State.INCONCLUSIVE, "no frames")
        assert watch.value("stream_up", "cam") == 0
        assert watch.value("stream_state", "cam", state="inconclusive") == 1
        assert watch.reading("cam").up is False
        time.sleep(1.0)
        server.start()
        watch.until_more("cam", 10)
        assert watch.kinds("cam") == ["up", "down", "up"]
        assert watch.value("stream_up", "cam") == 1
        assert watch.reading("cam").reconnects == sum(watch.reconnects("cam").values()) >= 1
        assert watch.reading("cam").up
        assert time.time() - 60 < watch.reading("cam").last_frame_at <= time.time()
        assert watch.guard.snapshot("cam").session == 2
        assert watch.worst_stall("next") < MOST_STALL
        assert watch.kinds("next") == ["up"]
        assert watch.reconnects("next") == {}
    ended = [event for event in watch.events if event["type"].endswith("track.state.v1")]
    assert any(event["data"]["stream"] == "cam" and event["data"]["state"] == "inconclusive" for event in ended)


def test_a_frozen_server_is_noticed_and_taken_up_again(faces, neighbour):
    with RtspServer(faces) as server, Watch() as watch:
        watch.add("cam", server)
        watch.add("next", neighbour)
        watch.until_more("cam", 10)
        watch.until_more("next", 10)
        watch.calm("next")
        server.freeze()
        watch.until(lambda: watch.kinds("cam")[-1] == "down", 10)
        assert watch.state("cam") == (State.INCONCLUSIVE, "no frames")
        assert watch.reconnects("cam")["stalled"] >= 1
        time.sleep(14)  # some twenty seconds in all
        assert watch.kinds("cam") == ["up", "down"]
        server.thaw()
        watch.until_more("cam", 10, 45)
        assert watch.kinds("cam") == ["up", "down", "up"]
        assert watch.worst_stall("next") < MOST_STALL


def test_wrong_credentials_are_named_and_tried_again_later(faces, neighbour):
    locked = RtspServer(faces, user="bob", password="hunter2").start()
    knocking = RtspServer(faces, user="bob", password="letmein", port=locked.port)
    with Watch() as watch:
        watch.add("cam", knocking)
        watch.add("next", neighbour)
        watch.until(lambda: watch.reconnects("cam").get("denied", 0) >= 1)
        watch.until_more("next", 10)
        watch.calm("next")
        assert watch.kinds("cam") == ["down"]
        assert watch.state("cam") == (State.INCONCLUSIVE, "no frames")
        assert "denied" in watch.reconnects("cam")
        locked.kill()
        knocking.start()
        try:
            watch.until_more("cam", 10)
        finally:
            knocking.kill()
        assert watch.kinds("cam")[:2] == ["down", "up"]
        assert watch.worst_stall("next") < MOST_STALL


def test_a_server_that_is_absent_at_the_start_holds_nobody(faces, neighbour):
    server = RtspServer(faces)
    with Watch() as watch:
        watch.add("cam", server)
        watch.add("next", neighbour)
        watch.until_more("next", 10)
        watch.calm("next")
        watch.until(lambda: sum(watch.reconnects("cam").values()) >= 2)
        assert watch.kinds("cam") == ["down"], "told once, not with every attempt"
        assert watch.frames("cam") == 0
        with server:
            watch.until_more("cam", 10)
            assert watch.kinds("cam") == ["down", "up"]
        assert watch.worst_stall("next") < MOST_STALL


def test_a_source_that_never_came_is_a_failure(faces):
    watch = Watch()
    watch.guard.add(open_source(f"rtsp://bob:hunter2@127.0.0.1:{free_port()}/live", name="cam"))
    report = watch.guard.run(duration=2.0)
    assert "gave no frame" in report.failures["cam"]
    assert "hunter2" not in report.failures["cam"]


def test_another_resolution_is_another_session(tmp_path, neighbour):
    frames = itertools.chain(patterns(75, 640, 360), patterns(75, 320, 240, first=75))
    with RtspServer(write_clip(tmp_path / "two.units", frames)) as server, Watch() as watch:
        watch.add("cam", server)
        watch.add("next", neighbour)
        watch.until_more("next", 10)
        watch.calm("next")
        watch.until(lambda: watch.value("stream_width_pixels", "cam") == 640)
        watch.until(lambda: watch.value("stream_width_pixels", "cam") == 320)
        assert watch.guard.snapshot("cam").session >= 2
        assert watch.reconnects("cam")["changed"] >= 1
        assert watch.kinds("cam")[:3] == ["up", "down", "up"]
        watch.until_more("cam", 10)
        assert watch.worst_stall("next") < MOST_STALL


def test_lost_packets_are_counted_and_the_stream_stays_up(faces, neighbour):
    with RtspServer(faces, loss=0.03) as server, Watch() as watch:
        watch.add("cam", server, transport="udp")
        watch.add("next", neighbour)
        watch.until_more("next", 10)
        watch.until_more("cam", 10)
        watch.calm("next")
        watch.until_more("cam", 200)
        assert watch.value("frames_corrupt_total", "cam") > 0
        assert watch.reconnects("cam") == {}
        assert "down" not in watch.kinds("cam")
        assert watch.state("cam")[1] in (None, "damaged frames", "too little evidence", "no scores", "no face")
        assert watch.value("frames_corrupt_total", "next") == 0
        assert watch.worst_stall("next") < MOST_STALL


def test_a_picture_that_stands_still_is_degraded_and_not_scored(tmp_path, neighbour):
    still = write_clip(tmp_path / "still.units", [next(patterns(1, 640, 360))] * 50)
    with RtspServer(still) as server, Watch() as watch:
        watch.add("cam", server)
        watch.add("next", neighbour)
        watch.until(lambda: "degraded" in watch.kinds("cam"), 20)
        watch.until(lambda: watch.state("cam") == (State.INCONCLUSIVE, "frozen picture"))
        watch.until(lambda: watch.value("frames_dropped_total", "cam", reason="frozen") >= 2)
        assert watch.value("stream_up", "cam") == 1
        assert "degraded" not in watch.kinds("next")


class SlowGuard(Guard):
    """Takes 60 ms over every frame, and notes how old each was."""

    ages: list[float]

    def analysed(self, frame):
        stamp = read_stamp(frame.picture)
        time.sleep(0.06)
        if stamp is not None:
            self.ages.append(((int(time.time() * 1000) % 2**24) - stamp) % 2**24 / 1000)


def test_a_slow_consumer_stays_near_the_present(tmp_path):
    raw = write_raw(tmp_path / "raw.yuv", patterns(25, 640, 360))
    config = Config(sampling=SamplerSettings(detect_every=1))
    with RtspServer(raw=raw, size=(640, 360)) as server, Watch(config, guard=SlowGuard) as watch:
        watch.guard.ages = []
        watch.add("cam", server)
        watch.until(lambda: len(watch.guard.ages) >= 120, 60)
        late = watch.guard.ages[20:]
        assert np.percentile(late, 95) < 0.5
        assert max(late[-30:]) < 0.5, "age must not grow"
        assert watch.value("frames_dropped_total", "cam", reason="overtaken") > 20


def test_fifty_connections_leave_nothing_behind(faces, neighbour):
    keep_large_pieces_apart()  # as the command does
    with RtspServer(faces) as server, Watch() as watch:
        watch.add("next", neighbour)
        watch.until_more("next", 10)
        watch.calm("next")
        sizes = []
        for turn in range(50):
            watch.add(f"cam{turn % 2}", server)
            watch.until_more(f"cam{turn % 2}", 2)
            watch.guard.remove(f"cam{turn % 2}")
            watch.until(lambda name=f"cam{turn % 2}": watch.guard.snapshot(name) is None)
            if turn in (9, 29, 49):
                time.sleep(0.5)
                sizes.append((_resident_mb(), threading.active_count(), len(os.listdir("/proc/self/fd"))))
        (first_mb, first_threads, first_files), _, (last_mb, last_threads, last_files) = sizes
        assert last_mb - first_mb < 20, sizes
        assert abs(last_threads - first_threads) <= 1, sizes
        assert abs(last_files - first_files) <= 2, sizes
        assert watch.kinds("next") == ["up"]
        assert watch.worst_stall("next") < MOST_STALL


def test_nothing_of_a_stream_waits_for_the_collector_of_cycles(faces, neighbour):
    with RtspServer(faces) as server, Watch() as watch:
        watch.add("next", neighbour)
        watch.add("cam", server)
        watch.until_more("cam", 10)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            server.kill()
            watch.until(lambda: "down" in watch.kinds("cam"))
            watch.until(lambda: not any(thread.name.startswith("reader-cam") for thread in threading.enumerate()))
            decoders = sum(type(each) is InputContainer for each in gc.get_objects())
            assert decoders == 1, "a stream that is down keeps a decoder"
            watch.guard.remove("cam")
            watch.until(lambda: not any(thread.name == "feed-cam" for thread in threading.enumerate()))
            gc.collect()
            left = {f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert not [name for name in left if name.startswith(("streamguard.", "av."))]


def test_a_password_shows_nowhere(faces, caplog):
    secret = "s3cr3t-planted"
    caplog.set_level(logging.DEBUG)
    server = RtspServer(faces, user="bob", password=secret).start()
    wrong = RtspServer(faces, user="bob", password=f"{secret}-wrong", port=server.port)
    with Watch() as watch:
        watch.add("cam", server)
        watch.add("denied", wrong)
        watch.add("absent", RtspServer(faces, user="bob", password=secret))
        watch.until_more("cam", 10)
        watch.until(lambda: watch.reconnects("denied") and watch.reconnects("absent"))
        server.kill()
        watch.until(lambda: "down" in watch.kinds("cam"))
        with pytest.raises(Exception, match="is being watched already") as refused:
            watch.add("cam", server)
        said = [watch.metrics_text(), json.dumps(watch.events), caplog.text, str(refused.value)]
        assert all(secret not in text for text in said)
    assert any("absent" in text for text in said)


def test_the_command_survives_a_restart_of_its_server(faces, tmp_path):
    events = tmp_path / "events.jsonl"
    server = RtspServer(faces, user="bob", password="s3cr3t-planted").start()
    command = [sys.executable, "-c", "from streamguard.cli import main; main()", "watch", server.url]
    options = ["--events", str(events), "--listen", "none", "--duration", "300"]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen([*command, *options], stdout=said, stderr=said)
    try:
        for last in ("up", "down", "up"):
            _until_told(events, last)
            if last == "up":
                server.kill()
            else:
                server.start()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        server.kill()
    kinds = [kind for kind in _told(events) if kind in ("up", "down")]
    assert kinds[:3] == ["up", "down", "up"]
    text = events.read_text() + (tmp_path / "said.txt").read_text()
    assert "s3cr3t-planted" not in text


def _told(events):
    lines = events.read_text().splitlines() if events.exists() else []
    return [json.loads(line)["type"].split(".")[2] for line in lines if "streamguard.stream." in line]


def _until_told(events, kind):
    deadline = time.monotonic() + 60
    while _told(events)[-1:] != [kind]:
        assert time.monotonic() < deadline, _told(events)
        time.sleep(0.05)


def _resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
