"""RTSP against a real server that is killed, frozen, restarted, locked and lossy."""

import itertools
import os
import resource
import subprocess
import threading
import time

import pytest

from streamguard.errors import SourceDenied
from streamguard.ingest import network
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.live import FeedSettings
from streamguard.ingest.mailbox import Crossing, Mailbox
from streamguard.ingest.source import open_source
from streamguard.ingest.watchdog import WatchdogSettings
from tests.media import pattern, patterns, write_video
from tests.rtsp_server import RtspServer, free_port, require, write_clip
from tests.watching import QUICK, readers_gone, watching

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("_servers")]
SHORT = SourceOptions(open_timeout=2.0, read_timeout=2.0)


@pytest.fixture(scope="module")
def _servers():
    require()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("rtsp") / "clip.units", patterns(100, 640, 360))


@pytest.fixture
def server(clip):
    with RtspServer(clip) as running:
        yield running


def looped(stamps, length=100):
    """Whether the numbers follow each other, the clip starting again behind its last."""
    return all(b == (a + 1) % length for a, b in itertools.pairwise(stamps))


def test_pictures_come_in_order_with_the_capture_time_of_the_sender(server):
    with watching(open_source(server.url)) as seen:
        seen.until(lambda: any(f.clock == "rtcp" for _, _, f in seen.frames))
        seen.until_frames(25)
        offset = seen.connection.clock_offset
    assert looped(seen.stamps(1))
    frames = [frame for _, _, frame in seen.frames]
    assert frames[0].pts == 0.0
    assert all(b.pts > a.pts for a, b in itertools.pairwise(frames))
    assert [f.index for f in frames] == list(range(len(frames)))
    assert not any(f.damaged for f in frames)
    clocks = [f.clock for f in frames]
    assert clocks == ["arrival"] * clocks.index("rtcp") + ["rtcp"] * clocks.count("rtcp")
    assert 0.0 < offset < 2.0, "sender and receiver read the same clock here"
    times = [f.captured_at for f in frames if f.clock == "rtcp"]
    assert times[-1] - times[0] == pytest.approx((len(times) - 1) / 25, abs=0.1)


def test_udp_when_asked_for(server):
    with watching(open_source(server.url, options=SourceOptions(transport="udp"))) as seen:
        seen.until_frames(50)
    assert looped(seen.stamps(1))


def test_a_server_that_does_not_describe_its_picture_is_probed(server, monkeypatch):
    described = network._has_size
    tries = []

    def nothing_known_at_first(container):
        tries.append(described(container))
        return len(tries) > 1

    monkeypatch.setattr(network, "_has_size", nothing_known_at_first)
    with open_source(server.url).open(1) as connection:
        frames = list(itertools.islice(connection, 5))
    assert tries == [True]
    assert (connection.info.width, len(frames)) == (640, 5)


def test_kill_and_restart_beside_a_neighbour(server, clip):
    with (
        RtspServer(clip) as other,
        watching(open_source(other.url, name="neighbour")) as neighbour,
        watching(open_source(server.url)) as seen,
    ):
        seen.until_frames(25)
        server.kill()
        seen.until_told("closed", 1, "ended")
        seen.until_told("retry", "lost")
        server.start()
        seen.until_told("opened", 2)
        seen.until_frames(25, session=2)
        neighbour.until_frames(25)
    assert [t for t in seen.told if t[0] == "opened"] == [("opened", 1), ("opened", 2)]
    assert seen.frames[-1][2].session == 2
    assert neighbour.told == [("opened", 1), ("closed", 1, "ended")]
    assert looped(neighbour.stamps(1)), "the neighbour lost no picture"


def test_a_frozen_server_is_left_and_found_again(server):
    with watching(open_source(server.url, options=SHORT)) as seen:
        seen.until_frames(25)
        server.freeze()
        seen.until_told("closed", 1, "stalled")
        told = len(seen.told)
        seen.until(lambda: len(seen.told) > told + 1)  # it was tried again meanwhile
        server.thaw()
        seen.until_told("opened", 2)
        seen.until_frames(25, session=2)
    assert readers_gone()


def test_server_absent_at_start(clip):
    server = RtspServer(clip)
    with watching(open_source(server.url)) as seen:
        seen.until_told("retry", "lost")
        assert seen.frames == []
        server.start()
        seen.until_told("opened", 1)
    server.kill()


def test_wrong_then_right_password(clip):
    server = RtspServer(clip, user="bob", password="hunter2")
    url = server.url
    server.password = "another"
    with server, watching(open_source(url)) as seen:
        seen.until_told("retry", "denied")
        seen.until(lambda: seen.told.count(("retry", "denied")) >= 2)
        server.kill()
        server.password = "hunter2"
        server.start()
        seen.until_told("opened", 1)
        seen.until_frames(5)
    assert not any("hunter2" in words or "bob" in words for words in seen.words)
    assert set(seen.told[: seen.told.index(("opened", 1))]) <= {("retry", "denied"), ("retry", "lost")}


def test_a_refusal_names_the_source_and_not_the_password(clip):
    with RtspServer(clip, user="bob", password="hunter2") as server:
        with pytest.raises(SourceDenied) as denied:
            open_source(server.url.replace("hunter2", "hunter3")).open(1)
        with pytest.raises(SourceDenied):
            open_source(server.url.replace("bob:hunter2@", "")).open(1)
    said = str(denied.value)
    assert f"127.0.0.1:{server.port}/live" in said
    assert "hunter" not in said
    assert "bob" not in said
    assert denied.value.__cause__ is None


def test_another_picture_size_is_another_session(tmp_path):
    both = [*patterns(50, 640, 360), *patterns(50, 480, 272, first=50)]
    clip = write_clip(tmp_path / "both.units", both)
    with RtspServer(clip) as server, watching(open_source(server.url)) as seen:
        seen.until_told("closed", 1, "changed")
        seen.until_told("opened", 2)
        seen.until_frames(5, session=2)
    sizes = {session: set() for session, _, _ in seen.frames}
    for session, _, frame in seen.frames:
        sizes[session].add((frame.picture.width, frame.picture.height))
    assert all(len(of) == 1 for of in sizes.values())
    assert sizes[1] == {(640, 360)}
    assert sizes[2] == {(480, 272)}


def test_loss_is_marked_until_the_next_keyframe_and_stops_nothing(clip):
    lossy = SourceOptions(transport="udp")
    with RtspServer(clip, loss=0.03) as server, watching(open_source(server.url, options=lossy)) as seen:
        seen.until(lambda: sum(f.damaged for _, _, f in seen.frames) > 10)
        seen.until_frames(100)
    assert [t for t in seen.told if t[0] == "opened"] == [("opened", 1)]
    sound = [(stamp, frame) for _, stamp, frame in seen.frames if not frame.damaged]
    assert len(sound) > 20
    assert sum(stamp is not None for stamp, _ in sound) > 0.95 * len(sound)


def test_a_picture_that_stands_still_is_told(tmp_path):
    clip = write_clip(tmp_path / "still.units", [pattern(7, 640, 360)] * 50)
    settings = FeedSettings(WatchdogSettings(frozen=2.0), QUICK.backoff)
    with RtspServer(clip) as server, watching(open_source(server.url), settings) as seen:
        seen.until_told("frozen", 1, True)
    moving = write_clip(tmp_path / "moving.units", patterns(50, 640, 360))
    with RtspServer(moving) as server, watching(open_source(server.url), settings) as seen:
        seen.until_frames(75)
    assert not any(t[0] == "frozen" for t in seen.told)


def test_compressed_video_is_kept_for_clips(server):
    with watching(open_source(server.url, options=SourceOptions(keep_seconds=2.0))) as seen:
        seen.until_frames(60)
        last = seen.frames[-1][2]
        recording = seen.connection.recording
        packets = recording.passage(float(last.ticks * recording.format.video.time_base) - 1.0)
    assert packets[0].keyframe
    assert 25 <= len(packets) <= 60


def test_fifty_connections_leave_nothing_behind(tmp_path):
    clip = write_clip(tmp_path / "clip.units", patterns(50, 640, 360), gop=3)  # the first picture waits for a keyframe
    with RtspServer(clip) as server:
        _connect_fifty_times(open_source(server.url))


def _connect_fifty_times(source):

    def once(session):
        with source.open(session) as connection:
            return next(iter(connection)).session

    def held():
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    for session in range(5):
        once(session)
    before, memory = held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [once(session) for session in range(50)] == list(range(50))
    assert held() == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 20_000, "KiB"


def test_rtmp_from_a_server(tmp_path):
    path = write_video(tmp_path / "a.mp4", patterns(300, 640, 360))
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live/KEY123"
    command = ["ffmpeg", "-loglevel", "error", "-re", "-i", str(path), "-c", "copy", "-f", "flv", "-listen", "1", url]
    with subprocess.Popen(command) as sender:
        try:
            with watching(open_source(url)) as seen:
                seen.until_told("opened", 1)
                seen.until_frames(30)
                sender.kill()
                seen.until(lambda: any(t[0] == "closed" for t in seen.told))
                seen.until_told("retry", "lost")
        finally:
            sender.kill()
    assert seen.stamps(1)[0] is not None
    assert not any("KEY123" in words for words in seen.words)


def test_a_slow_taker_gets_the_newest_frame(server):
    """60 ms a frame, where one comes every 40: what it takes is at most one frame old, however long it goes on."""
    crossing = Crossing(Mailbox(1, "newest"), lambda: None)
    with watching(open_source(server.url)) as seen:
        seen.frame = lambda frame: crossing.put(frame) or seen.frames.append((1, None, frame))
        seen.until_told("opened", 1)
        ages = []
        while len(ages) < 40:
            time.sleep(0.06)
            newest = seen.frames[-1][2].index if seen.frames else 0
            item = crossing.take()
            if item is not None:
                ages.append(newest - item.frame.index)
    assert max(ages) <= 1
    assert seen.frames[-1][2].index > 50


def test_a_machine_that_decodes_too_slowly_is_late_for_seconds_only(server):
    """Each picture takes three times as long as it is shown: after twelve seconds it would be eight seconds behind."""
    lags, sound, keyframes_after = [], [], []
    with open_source(server.url).open(1) as connection:
        began = time.monotonic()
        skipped = 0
        for frame in connection:
            if time.monotonic() - began > 12:
                break
            lags.append(time.monotonic() - began - frame.pts)
            sound.append(not frame.damaged)
            if connection.skipped_frames > skipped:
                skipped = connection.skipped_frames
                keyframes_after.append(frame.index)
            time.sleep(0.12)
    assert skipped > 50
    assert len(keyframes_after) >= 2
    assert max(lags) - min(lags) < 4.0
    assert all(sound), "decoding goes on at a keyframe"
