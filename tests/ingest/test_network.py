"""Live sources over real sockets, with senders that need no server package."""

import itertools
import re
import socket
import time

import pytest

from streamguard.errors import InputMissing, InputUnreadable, SourceLost, SourceRefused
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.network import LiveSource, RemoteFile, kind_of, public
from streamguard.ingest.source import open_source
from tests.media import patterns, read_stamp, write_video
from tests.rtsp_server import free_port
from tests.senders import jpeg_camera, sending, web_server
from tests.watching import watching

SHORT = SourceOptions(open_timeout=1.0, read_timeout=1.0)


def in_order(stamps):
    return None not in stamps and all(b == a + 1 for a, b in itertools.pairwise(stamps))


def test_mpeg_ts_over_udp_comes_goes_and_comes_back():
    port = free_port()
    with watching(open_source(f"udp://127.0.0.1:{port}", options=SHORT)) as seen:
        with sending(f"udp://127.0.0.1:{port}?pkt_size=1316", "mpegts", muxer={"flush_packets": "1"}):
            seen.until_told("opened", 1)
            seen.until_frames(30)
            assert (seen.connection.info.width, seen.connection.info.codec) == (640, "h264")
        seen.until_told("closed", 1, "stalled")
        with sending(f"udp://127.0.0.1:{port}?pkt_size=1316", "mpegts", muxer={"flush_packets": "1"}):
            seen.until_told("opened", 2)
            seen.until_frames(10, session=2)
    sound = [stamp for _, stamp, frame in seen.frames if not frame.damaged and frame.session == 1]
    assert in_order(sound[:-1])
    first = seen.frames[0][2]
    assert (first.pts, first.index, first.clock) == (0.0, 0, "arrival")
    assert abs(first.captured_at - time.time()) < 60


def test_live_hls_is_followed_and_spread_over_time(tmp_path):
    segments = {"hls_time": "1", "hls_list_size": "4", "hls_flags": "delete_segments"}
    with web_server(tmp_path) as address, sending(str(tmp_path / "live.m3u8"), "hls", muxer=segments):
        due = time.monotonic() + 20
        while not (tmp_path / "live.m3u8").exists() and time.monotonic() < due:
            time.sleep(0.05)
        with watching(open_source(f"{address}/live.m3u8")) as seen:
            seen.until_told("opened", 1)
            begin = time.monotonic()
            seen.until_frames(45)
            took = time.monotonic() - begin
            seen.until_frames(30)
    assert in_order(seen.stamps(1))
    assert took > 1.0, "the segments that are there at the start would otherwise come at once"


def test_a_finished_hls_playlist_is_a_recording(tmp_path):
    write_video(tmp_path / "all.m3u8", patterns(20), format="hls", muxer={"hls_playlist_type": "vod"})
    with web_server(tmp_path) as address, watching(open_source(f"{address}/all.m3u8")) as seen:
        seen.until_told("closed", 1, "ended")
    assert seen.stamps(1) == list(range(20))
    assert seen.told == [("opened", 1), ("closed", 1, "ended")]


def test_a_transport_stream_over_http_is_live(tmp_path):
    write_video(tmp_path / "camera.ts", patterns(30))
    with web_server(tmp_path) as address, watching(open_source(f"{address}/camera.ts")) as seen:
        seen.until_frames(20)
    assert open_source(f"{address}/camera.ts").live


def test_a_camera_that_sends_jpegs_counts_time_by_arrival():
    """FFmpeg takes such streams for 25 frames a second, whatever they are."""
    with jpeg_camera(fps=8) as address, watching(open_source(address)) as seen:
        seen.until_frames(12)
    assert in_order(seen.stamps(1))
    frames = [frame for _, _, frame in seen.frames]
    assert frames[-1].pts - frames[0].pts >= (len(frames) - 2) / 8
    assert not any(f.damaged for f in frames)


def test_a_file_on_a_web_server_is_read_to_its_end(tmp_path):
    write_video(tmp_path / "a b.mp4", patterns(30))
    with web_server(tmp_path) as address:
        source = open_source(f"{address}/a%20b.mp4?token=secret")
        assert isinstance(source, RemoteFile)
        assert (source.name, source.live) == ("a b.mp4", False)
        assert source.uri.endswith("a%20b.mp4?token=***")
        with source.open(1) as connection:
            assert [read_stamp(f.picture) for f in connection] == list(range(30))
        with pytest.raises(InputMissing, match="404"):
            open_source(f"{address}/none.mp4").open(1)
    with pytest.raises(InputUnreadable, match="refused"):
        open_source(f"http://127.0.0.1:{free_port()}/a.mp4").open(1)


def test_a_server_that_never_answers_does_not_hold_the_feed():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        uri = f"rtsp://bob:hunter2@127.0.0.1:{deaf.getsockname()[1]}/live"
        with pytest.raises(SourceLost) as lost:
            open_source(uri, options=SHORT).open(1)
    assert "hunter2" not in str(lost.value)
    assert lost.value.__cause__ is None
    assert lost.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http"])
def test_nobody_there_is_a_loss_that_keeps_secrets(scheme):
    uri = f"{scheme}://bob:hunter2@127.0.0.1:{free_port()}/live/hunter3"
    with pytest.raises(SourceLost) as lost:
        open_source(uri, options=SHORT).open(1)
    assert "hunter2" not in str(lost.value)
    assert "127.0.0.1" in str(lost.value)


def test_what_is_no_media_server_is_a_loss(tmp_path):
    (tmp_path / "live.m3u8").write_text("These are only words.")
    with web_server(tmp_path) as address, pytest.raises(SourceLost):
        open_source(f"{address}/live.m3u8", options=SHORT).open(1)


def test_a_camera_that_is_not_there_is_a_loss():
    with pytest.raises(SourceLost, match="/dev/video99"):
        open_source("/dev/video99").open(1)


@pytest.mark.parametrize(
    ("uri", "name", "shown"),
    [
        ("rtsp://bob:hunter2@cam:8554/door/1?token=a1", "cam:8554/door/1", "rtsp://***@cam:8554/door/1?token=***"),
        ("rtsps://cam/", "cam", "rtsps://cam/"),
        ("http://cam/live/index.m3u8", "cam/live/index.m3u8", "http://cam/live/index.m3u8"),
        ("rtmp://host/app/KEY123", "host/app", "rtmp://host/app/***"),
        ("udp://239.0.0.1:1234", "239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("/dev/video0", "video0", "/dev/video0"),
    ],
)
def test_live_sources_are_named_without_their_secrets(uri, name, shown):
    source = open_source(uri)
    assert isinstance(source, LiveSource)
    assert (source.name, source.uri, source.live) == (name, shown, True)
    assert public(uri) == shown
    assert open_source(uri, name="door").name == "door"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://bob:hunt@er2@cam/1", "rtsp://***@cam/1"),
        ("rtsp://bob:hunt/er2@cam/1", "rtsp://***@cam/1"),
        ("rtsp://bob:hunt er2@cam/1?user=bob", "rtsp://***@cam/1?user=***"),
        ("rtsp://cam/user=bob_password=hunter2_channel=1.sdp", "rtsp://cam/user=***_password=***_channel=1.sdp"),
        ("https://cam/a.m3u8?X-Amz-Signature=hunter2&x=1", "https://cam/a.m3u8?X-Amz-Signature=***&x=1"),
    ],
)
def test_secrets_in_odd_places_are_hidden_too(uri, shown):
    assert public(uri) == shown
    source = open_source(uri)
    assert "hunt" not in source.uri + source.name
    assert "er2" not in source.uri + source.name


def test_srt_is_refused_with_the_bridge_to_run():
    with pytest.raises(SourceRefused, match=re.escape("srt-live-transmit 'srt://HOST:PORT' udp://127.0.0.1:5000")):
        open_source("srt://host:9000")


def test_rtsp_goes_over_tcp_unless_udp_is_asked_for():
    assert kind_of("rtsp", SourceOptions()).options["rtsp_transport"] == "tcp"
    assert kind_of("rtsp", SourceOptions(transport="udp")).options["rtsp_transport"] == "udp"
