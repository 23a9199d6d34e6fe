"""HLS as a player has it: playlist, header and segments, decoded by FFmpeg; bounded, and gone when nobody asks."""

import io
import re
import time

import av
import numpy as np
import pytest

from streamguard.delivery.hls import PLAYLIST, HlsChannel, HlsSettings, Shelf
from streamguard.pixels import picture_of
from tests.delivery.shooting import Camera, beeps, write_clapper
from tests.media import read_stamp
from tests.serving import until


@pytest.fixture(scope="module")
def clapper(tmp_path_factory):
    return write_clapper(tmp_path_factory.mktemp("clips") / "clapper.mp4")


def listed(channel):
    """(header, segments) of the playlist as it stands."""
    text = (channel.get(PLAYLIST) or b"").decode()
    header = re.search(r'EXT-X-MAP:URI="(.*?)"', text)
    return (header and header[1]), re.findall(r"^(\S+\.m4s)$", text, re.M)


def gathered(channel, segments):
    """The header and so many segments in a row, fetched as they come."""
    until(lambda: listed(channel)[1])
    header, found = listed(channel)[0], {}
    deadline = time.monotonic() + 120
    while len(found) < segments:
        assert time.monotonic() < deadline
        for name in listed(channel)[1]:
            content = channel.get(name)
            if content is not None:
                found.setdefault(name, content)
        time.sleep(0.1)
    return channel.get(header) + b"".join(found.values())


def test_segments_decode_and_nothing_is_missing_between_them():
    with Camera() as camera:
        channel = HlsChannel(camera.broadcast, HlsSettings(segment=0.4))
        channel.start()
        film = gathered(channel, 4)
        with av.open(io.BytesIO(film)) as file:
            frames = list(file.decode(video=0))
        stamps = [read_stamp(picture_of(frame)) for frame in frames]
        dropped = camera.value("pictures_dropped_total", reason="overtaken")
        assert stamps == sorted(set(stamps))
        assert stamps[-1] - stamps[0] + 1 - len(stamps) <= dropped
        times = [frame.time for frame in frames]
        assert np.allclose(np.diff(times), np.diff(stamps) / 25, atol=0.002), "time in it is the stream's"
        assert camera.value("viewers", kind="hls") == 1


def test_sound_stays_with_its_picture(clapper):
    with Camera(clapper) as camera:
        channel = HlsChannel(camera.broadcast, HlsSettings(segment=0.5, window=12))
        channel.start()
        film = gathered(channel, 6)
        channel.stop()
    with av.open(io.BytesIO(film)) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        shown = {read_stamp(picture_of(frame)): frame.time for frame in file.decode(video=0)}
    with av.open(io.BytesIO(film)) as file:
        sound = list(file.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in sound])
    heard = beeps(samples, sound[0].sample_rate, sound[0].time)
    assert heard
    claps = [shown[number] for number in (25, 75, 125, 175) if number in shown]
    assert claps, sorted(shown)
    for clap in claps:
        assert min(abs(clap - beep) for beep in heard) < 0.1, (claps, heard)


def test_a_channel_that_nobody_asks_stops_and_leaves_the_broadcast():
    with Camera() as camera:
        channel = HlsChannel(camera.broadcast, HlsSettings(segment=0.4, idle=1.0))
        channel.start()
        until(lambda: camera.value("viewers", kind="hls") == 1)
        until(lambda: not channel.running)
        assert camera.value("viewers", kind="hls") == 0
        until(lambda: not camera.broadcast.watched)


def test_a_stream_that_is_gone_ends_its_channel():
    with Camera() as camera:
        channel = HlsChannel(camera.broadcast)
        channel.start()
        until(lambda: camera.value("pictures_encoded_total") > 3)
    until(lambda: not channel.running)


def test_memory_is_bounded_by_the_window():
    settings = HlsSettings(segment=0.3, window=3, spare=1)
    with Camera(pace=4.0) as camera:
        channel = HlsChannel(camera.broadcast, settings)
        channel.start()
        until(lambda: (listed(channel)[1] or ["-0."])[-1].partition("-")[2] >= "8")
        names = channel.names()
        assert len([name for name in names if name.endswith(".m4s")]) <= 4
        assert len(names) <= 6
        assert len(listed(channel)[1]) <= 3


def test_a_new_session_with_sound_goes_on_under_rising_numbers(tmp_path):
    clip = write_clapper(tmp_path / "short.mp4", seconds=2)
    with Camera(clip) as camera:
        channel = HlsChannel(camera.broadcast, HlsSettings(segment=0.4, window=20, spare=20))
        channel.start()

        def runs():
            channel.get(PLAYLIST)
            return {name.partition("-")[0] for name in channel.names() if name.endswith(".m4s")}

        until(lambda: len(runs()) >= 2)
        numbers = [int(re.search(r"-(\d+)", name)[1]) for name in channel.names() if name.endswith(".m4s")]
        assert numbers == sorted(set(numbers))
        assert b"ENDLIST" not in channel.get(PLAYLIST)


def test_a_header_goes_with_its_last_segment():
    shelf = Shelf(2)
    for name in ("a-init.mp4", "a-0.m4s", PLAYLIST, "a-1.m4s", "b-init.mp4", "b-2.m4s"):
        shelf.put(name, b"x")
    assert shelf.names() == ["a-init.mp4", PLAYLIST, "a-1.m4s", "b-init.mp4", "b-2.m4s"]
    shelf.put("b-3.m4s", b"x")
    assert shelf.names() == [PLAYLIST, "b-init.mp4", "b-2.m4s", "b-3.m4s"]
    assert shelf.get("a-init.mp4") is None
    assert shelf.following == 4
