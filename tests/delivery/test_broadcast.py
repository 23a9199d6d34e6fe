"""One picture for all who watch: encoded once, only while somebody does, and never held up by anybody."""

import asyncio
import io
import threading
import time

import av
import pytest
from prometheus_client import CollectorRegistry

from streamguard.delivery.broadcast import Broadcast, ShowTime
from streamguard.delivery.overlay import LOOKS
from streamguard.frames import Box, Frame, State, StreamSnapshot, Track
from streamguard.metrics import Metrics
from streamguard.pixels import picture_of, picture_of_rgb, rgb_of
from tests.media import pattern, read_stamp
from tests.serving import until

FACE = Track(1, 1, Box(100, 80, 180, 180), 0.9, 0.0, 0.0)


class Camera:
    """A broadcast with frames at hand, shown at whatever pace a test wants."""

    def __init__(self, standing=lambda: None):
        self.metrics = Metrics(CollectorRegistry())
        self.broadcast = Broadcast("cam", standing, self.metrics)
        self.shown = 0
        self.broadcast.opened()

    def show(self, count=1, *, size=(320, 240), session=1):
        for _ in range(count):
            picture = picture_of_rgb(pattern(self.shown, *size))
            self.broadcast.frame(Frame("cam", session, self.shown, self.shown / 25, 0.0, "arrival", picture))
            self.shown += 1

    def show_each(self, viewing, count, **how):
        """Show frames one by one, each after the one before was taken."""
        taken = []
        for _ in range(count):
            self.show(**how)
            taken.append(viewing.take(60))
        return taken

    def value(self, metric, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{metric}", {"stream": "cam", **labels}) or 0.0


@pytest.fixture
def camera():
    camera = Camera()
    yield camera
    camera.broadcast.close()


def decoded(encoded):
    decoder = av.CodecContext.create("h264", "r")
    return [picture_of(frame) for one in encoded for frame in decoder.decode(one.packet)]


def test_time_goes_on_through_sessions():
    clock = ShowTime(epoch=10.0)
    assert clock.begin(now=12.0) == 2.0
    assert clock.picture(5.0) == 5.0
    assert clock.picture(4.0) == pytest.approx(5.0 + 1 / 90000)
    assert clock.begin(now=13.0) > 5.0, "the old session ran ahead of the clock"
    assert clock.begin(now=23.0) == 13.0


def test_nothing_is_kept_or_encoded_while_nobody_watches(camera):
    camera.show(20)
    assert not camera.broadcast.watched
    assert camera.value("pictures_encoded_total") == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "picture-cam"]


def test_a_viewer_begins_at_a_key_frame_and_every_picture_decodes(camera):
    viewing = camera.broadcast.subscribe()
    taken = camera.show_each(viewing, 12)
    assert [one.key for one in taken] == [True] + [False] * 11
    assert [read_stamp(picture) for picture in decoded(taken)] == list(range(12))
    assert [one.pts for one in taken] == sorted({one.pts for one in taken})
    assert taken[0].size == (320, 240)


def test_four_viewers_share_one_encoder(camera):
    viewings = [camera.broadcast.subscribe() for _ in range(4)]
    for _ in range(10):
        camera.show()
        packets = [viewing.take(60).packet for viewing in viewings]
        assert len({id(packet) for packet in packets}) == 1
    assert camera.value("pictures_encoded_total") == 10
    assert camera.value("viewers", kind="webrtc") == 4


def test_a_viewer_that_joins_gets_a_key_frame_of_its_own(camera):
    first = camera.broadcast.subscribe()
    camera.show_each(first, 10)
    second = camera.broadcast.subscribe()
    seen = camera.show_each(first, 3)
    assert [one.key for one in seen] == [True, False, False]
    assert second.take(60).packet is seen[0].packet


def test_a_viewer_may_ask_for_a_key_frame_but_not_for_all(camera):
    viewing = camera.broadcast.subscribe()
    keys = []
    for _ in range(30):
        viewing.refresh()
        keys += [one.key for one in camera.show_each(viewing, 1)]
    assert keys.count(True) == 4, "one in 0.3 s of a second and a bit"


def test_key_frames_come_as_often_as_the_most_eager_viewer_wants(camera):
    camera.broadcast.subscribe(keys=9.0)
    viewing = camera.broadcast.subscribe(keys=0.4)
    keys = [at for at, one in enumerate(camera.show_each(viewing, 31)) if one.key]
    assert keys == [0, 10, 20, 30]


def test_a_slow_viewer_loses_whole_groups_and_holds_nobody(camera):
    slow, quick = camera.broadcast.subscribe(most=5), camera.broadcast.subscribe()
    taken = camera.show_each(quick, 36)
    late = []
    while (one := slow.take(0)) is not None:
        late.append(one)
    assert len(taken) == 36
    assert [one.key for one in late] == [True, False, False, False], "from the fourth key frame made for it"
    assert camera.value("pictures_dropped_total", reason="slow viewer") == 4 * 6
    assert decoded(late)


def test_the_last_viewer_ends_the_thread_and_the_next_starts_it(camera):
    for _ in range(2):
        viewing = camera.broadcast.subscribe()
        camera.show_each(viewing, 2)
        viewing.close()
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "picture-cam"])
        assert camera.value("viewers", kind="webrtc") == 0
    assert camera.value("pictures_encoded_total") == 4


def test_another_size_takes_another_encoder(camera):
    viewing = camera.broadcast.subscribe()
    first = camera.show_each(viewing, 3)
    camera.broadcast.opened()
    second = camera.show_each(viewing, 3, size=(480, 270), session=2)
    assert second[0].key
    assert (first[0].size, second[0].size) == ((320, 240), (480, 270))
    assert second[0].pts > first[-1].pts
    assert [read_stamp(picture) for picture in decoded(second)] == [3, 4, 5]


def test_odd_sides_lose_a_row_and_a_column(camera):
    viewing = camera.broadcast.subscribe()
    (only,) = camera.show_each(viewing, 1, size=(321, 241))
    assert only.size == (320, 240)
    assert [(picture.width, picture.height) for picture in decoded([only])] == [(320, 240)]


def test_the_decoders_planes_are_left_alone():
    standing = StreamSnapshot("cam", 1, 0.0, State.FLAGGED, None, (FACE,), ((1, State.FLAGGED),))
    camera = Camera(lambda: standing)
    picture = picture_of_rgb(pattern(0))
    before = picture.copy()
    for plane in (picture.y, picture.u, picture.v):
        plane.flags.writeable = False
    viewing = camera.broadcast.subscribe()
    camera.broadcast.frame(Frame("cam", 1, 0, 0.0, 0.0, "arrival", picture))
    (shown,) = decoded([viewing.take(60)])
    camera.broadcast.close()
    for name in ("y", "u", "v"):
        assert (getattr(picture, name) == getattr(before, name)).all()
    red = rgb_of(shown)[81, 140].astype(int)
    assert abs(red - LOOKS[State.FLAGGED].ground).max() < 40, red


def test_a_stream_that_is_gone_ends_its_viewings(camera):
    viewing = camera.broadcast.subscribe()
    camera.show_each(viewing, 1)
    camera.broadcast.close()
    assert viewing.take(60) is None
    assert viewing.over
    assert camera.broadcast.subscribe().over
    with pytest.raises(StopAsyncIteration):
        asyncio.run(camera.broadcast.still(240, 80))


def test_a_still_is_made_once_for_all_who_wait_for_its_size(camera):
    async def wait():
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(_still(camera, height)) for height in (120, 120, 240)]
        await asyncio.sleep(0)
        camera.show()
        return await asyncio.gather(*waiting)

    small, same, large = asyncio.run(wait())
    assert small is same
    with av.open(io.BytesIO(large), format="jpeg_pipe") as file:
        assert read_stamp(picture_of(next(file.decode(video=0)))) == 0
    assert len(small) < len(large)
    assert camera.value("pictures_encoded_total") == 0


async def _still(camera, height):
    return await camera.broadcast.still(height, 90)


def test_a_picture_that_stands_still_says_so():
    standing = StreamSnapshot("cam", 1, 0.0, State.CLEAR, None, (FACE,), ((1, State.CLEAR),))
    camera = Camera(lambda: standing)
    viewing = camera.broadcast.subscribe()
    (live,) = camera.show_each(viewing, 1)
    again = viewing.take(60)
    camera.broadcast.close()
    assert again.pts >= live.pts + 2.0
    clear, silent = (rgb_of(picture)[-2, 2].astype(int) for picture in decoded([live, again]))
    assert abs(clear - LOOKS[State.CLEAR].ground).max() < 40
    assert abs(silent - LOOKS[State.INCONCLUSIVE].ground).max() < 40


def test_frames_that_come_too_fast_are_overtaken_and_counted(camera):
    viewing = camera.broadcast.subscribe(most=1000)
    camera.show(200)
    overtaken = {"reason": "overtaken"}
    until(lambda: camera.value("pictures_encoded_total") + camera.value("pictures_dropped_total", **overtaken) == 200)
    viewing.close()


def test_viewers_that_come_and_go_from_many_threads_leave_nothing_behind(camera):
    def watch():
        for _ in range(20):
            viewing = camera.broadcast.subscribe(most=3)
            viewing.take(0.01)
            viewing.close()

    threads = [threading.Thread(target=watch) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        camera.show()
        time.sleep(0.005)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "picture-cam"])
    assert camera.value("viewers", kind="webrtc") == 0
    assert not camera.broadcast.watched
