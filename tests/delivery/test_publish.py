"""The picture at real RTSP servers: absent, locked, killed, taking nothing. What a dead one holds up: nothing."""

import logging
import random
import socket
import threading

import av
import numpy as np
import pytest

from streamguard.delivery.publish import Publisher, PublishSettings, publish_url
from streamguard.delivery.retry import RetrySettings
from streamguard.errors import UsageError
from streamguard.pixels import picture_of
from tests.delivery.shooting import Camera, beeps, write_clapper
from tests.media import read_stamp
from tests.rtsp_server import RtspServer, free_port, require
from tests.serving import until

QUICK = PublishSettings(stuck=2.0, answer=60.0, retry=RetrySettings(first=0.2, longest=0.5))


@pytest.mark.parametrize("url", ["http://host/x", "rtsp:///x", "host", ""])
def test_what_can_t_be_published_to_is_refused(url):
    with pytest.raises(UsageError, match="rtsp://HOST"):
        publish_url(url)


def test_the_name_of_the_stream_takes_its_place():
    assert publish_url("rtsps://h:322/live/{stream}?x=1", "a") == "rtsps://h:322/live/a?x=1"
    assert publish_url("rtsp://h/{stream}") == "rtsp://h/{stream}"


def test_a_dead_target_delays_nothing_and_is_tried_again_without_its_password(caplog):
    caplog.set_level(logging.DEBUG)
    with Camera() as camera:
        viewing = camera.broadcast.subscribe(most=1000)
        publisher = Publisher(
            camera.broadcast, f"rtsp://bob:s3cr3t@127.0.0.1:{free_port()}/live", camera.metrics, QUICK, random.Random(1)
        )
        publisher.start()
        until(lambda: camera.value("publish_attempts_total", outcome="lost") >= 3)
        assert camera.value("publish_up") == 0
        until(lambda: viewing.take(30) is not None and camera.value("pictures_encoded_total") > 10)
        assert camera.value("pictures_dropped_total", reason="slow viewer") == 0
    publisher.join(30)
    assert not publisher.running
    assert "s3cr3t" not in caplog.text
    assert "no connection" in caplog.text


@pytest.fixture
def server(tmp_path):
    require()
    with RtspServer(record=tmp_path / "recorded.mkv") as server:
        yield server


def stamps_of(path):
    """(stamp, seconds) of each picture that a recording holds so far."""
    try:
        with av.open(str(path)) as file:
            return [(read_stamp(picture_of(frame)), frame.time) for frame in file.decode(video=0)]
    except (av.FFmpegError, OSError):
        return []  # nothing in it yet


@pytest.mark.servers
def test_the_picture_arrives_and_a_killed_server_gets_it_again(server):
    with Camera() as camera:
        publisher = Publisher(camera.broadcast, server.url, camera.metrics, QUICK, random.Random(1))
        publisher.start()
        until(lambda: camera.value("publish_up") == 1)
        until(lambda: len(stamps_of(server.record)) >= 20)
        first = stamps_of(server.record)
        server.kill()
        until(lambda: camera.value("publish_attempts_total", outcome="lost") >= 1)
        server.record.unlink()
        server.start()
        until(lambda: len(stamps_of(server.record)) >= 10)
        again = stamps_of(server.record)
    publisher.join(30)
    assert not publisher.running
    numbers = [number for number, _ in first]
    assert None not in numbers
    assert numbers == sorted(set(numbers))
    assert again[0][0] > numbers[-1]


def test_a_server_that_never_answers_is_given_up_and_holds_nobody():
    settings = PublishSettings(answer=3.0, retry=QUICK.retry)
    with socket.create_server(("127.0.0.1", 0)) as deaf, Camera() as camera:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/live"
        publisher = Publisher(camera.broadcast, url, camera.metrics, settings, random.Random(1))
        viewing = camera.broadcast.subscribe(most=10_000)
        publisher.start()
        until(lambda: camera.value("publish_attempts_total", outcome="stalled") >= 2)
        assert camera.value("pictures_encoded_total") > 20
        assert viewing.take(30).key
        assert camera.value("publish_up") == 0
    publisher.join(30)
    assert not publisher.running
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "publishing-cam"])


@pytest.mark.servers
def test_a_server_that_stops_taking_is_given_up_and_gets_it_again(server):
    settings = PublishSettings(stuck=2.0, answer=5.0, retry=QUICK.retry)
    with Camera(noise=True) as camera:
        publisher = Publisher(camera.broadcast, server.url, camera.metrics, settings, random.Random(1))
        viewing = camera.broadcast.subscribe(most=10_000)
        publisher.start()
        until(lambda: camera.value("publish_up") == 1)
        until(lambda: len(stamps_of(server.record)) >= 5)
        server.freeze()
        try:
            until(lambda: camera.value("publish_attempts_total", outcome="stalled") >= 1)
            assert camera.value("publish_up") == 0
            before = camera.value("pictures_encoded_total")
            until(lambda: camera.value("pictures_encoded_total") > before)
        finally:
            server.thaw()
        until(lambda: camera.value("publish_up") == 1)
        assert viewing.take(30) is not None, "another viewer had its pictures all the while"
    publisher.join(30)
    assert not publisher.running


@pytest.mark.servers
def test_wrong_credentials_are_named(tmp_path):
    require()
    with RtspServer(record=tmp_path / "recorded.mkv", user="bob", password="hunter2") as server, Camera() as camera:
        url = server.url.replace("hunter2", "letmein")
        publisher = Publisher(camera.broadcast, url, camera.metrics, QUICK, random.Random(1))
        publisher.start()
        until(lambda: camera.value("publish_attempts_total", outcome="denied") >= 1)
    publisher.join(30)


@pytest.mark.servers
def test_sound_is_copied_and_stays_with_its_picture(tmp_path):
    require()
    clip = write_clapper(tmp_path / "clapper.mov", codec="pcm_alaw", rate=8000)
    with RtspServer(record=tmp_path / "recorded.mkv", audio=True) as server, Camera(clip) as camera:
        publisher = Publisher(camera.broadcast, server.url, camera.metrics, QUICK, random.Random(1))
        publisher.start()
        until(lambda: any((number or 0) >= 130 for number, _ in stamps_of(server.record)))
    publisher.join(30)
    shown = dict(stamps_of(server.record))
    with av.open(str(server.record)) as file:
        assert file.streams.audio[0].codec_context.name == "pcm_alaw"
        sound = list(file.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in sound]) / 32768
    heard = beeps(samples, 8000, sound[0].time)
    assert np.allclose(np.diff(heard), 2.0, atol=0.1), heard
    # The recorder goes by when packets come, so how they lie together is not to be seen here but in test_hls.py.
    assert any((number or 0) >= 130 for number in shown)
