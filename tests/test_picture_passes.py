"""The picture that passes through never waits for the analysis, and says so when there is none."""

import threading
import time

import av
import pytest
from prometheus_client import CollectorRegistry

from streamguard.config import Config
from streamguard.delivery.overlay import LOOKS
from streamguard.errors import StreamUnknown, UsageError
from streamguard.frames import Frame, State
from streamguard.ingest.connection import Keeping, SourceOptions, StreamInfo
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.pixels import picture_of, picture_of_rgb, rgb_of
from tests.media import pattern, read_stamp
from tests.serving import until


class Cam(Keeping):
    """A live source that is made on the spot: 25 numbered pictures a second, for ever."""

    name = uri = "cam"
    live = True

    def __init__(self):
        self._options = SourceOptions()

    def open(self, session):
        return Connected(session)


class Connected:
    info = StreamInfo(320, 240, 25.0, "made", None, audio=False)
    received_bytes = 0
    skipped_frames = 0
    clock_offset = recording = None
    finished = False

    def __init__(self, session):
        self._session = session

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def __iter__(self):
        started = time.monotonic()
        for index in range(100_000):
            time.sleep(max(0.0, started + index / 25 - time.monotonic()))
            yield Frame("cam", self._session, index, index / 25, time.time(), "arrival", picture_of_rgb(pattern(index)))


def verdict_colour(picture):
    """Of the lower left corner."""
    return rgb_of(picture)[-2, 2].astype(int)


@pytest.fixture
def guard():
    return Guard(Config(), metrics=Metrics(CollectorRegistry()))


def test_the_picture_passes_when_the_inference_thread_stops(guard):
    guard.add(Cam())
    reports = []
    running = threading.Thread(target=lambda: reports.append(guard.run()))
    running.start()
    viewing = guard.broadcast("cam").subscribe(most=10_000)
    assert viewing.take(60).key
    until(lambda: guard.snapshot("cam").session == 1)
    guard._stage.stop()
    until(lambda: not guard.alive)
    last = guard.snapshot("cam").pts
    viewing.refresh()
    decoder, stamps, silent, begun = av.CodecContext.create("h264", "r"), [], 0, False
    deadline = time.monotonic() + 120
    while silent < 25:
        assert time.monotonic() < deadline
        item = viewing.take(60)
        begun = begun or item.key
        for frame in decoder.decode(item.packet) if begun else ():
            picture = picture_of(frame)
            stamps.append(read_stamp(picture))
            if stamps[-1] / 25 > last + 2.5:
                assert abs(verdict_colour(picture) - LOOKS[State.INCONCLUSIVE].ground).max() < 40
                silent += 1
    assert stamps == sorted(set(stamps))
    assert running.is_alive(), "the picture goes on as long as somebody watches"
    viewing.close()
    running.join(60)
    assert reports[0].failures == {"cam": "the inference thread failed"}


def test_a_stream_that_is_removed_ends_its_viewings(guard):
    with guard:
        guard.add(Cam())
        viewing = guard.broadcast("cam").subscribe(most=10_000)
        assert viewing.take(60).key
        guard.remove("cam")
        until(lambda: viewing.over)
        with pytest.raises(StreamUnknown, match="'cam'"):
            guard.broadcast("cam")


def test_what_can_t_be_published_is_refused(guard):
    with guard:
        with pytest.raises(StreamUnknown):
            guard.publish("cam", "rtsp://media/x")
        guard.add(Cam())
        with pytest.raises(UsageError, match="can't be published to"):
            guard.publish("cam", "http://bob:s3cr3t@media/x")
