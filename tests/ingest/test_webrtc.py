"""What a peer sends, from the track of a real connection to frames: bounded, in order, with its losses named."""

import asyncio
import threading

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection

from streamguard.errors import PictureSize
from streamguard.ingest.live import FeedSettings, LiveFeed
from streamguard.ingest.webrtc import BOUND, Arrival, Inlet, Reception, WebRtcSource, skip, waiting
from streamguard.pixels import picture_of
from tests.media import pattern, patterns, read_stamp
from tests.peers import Camera, Offering, h264, lose, until, vp8


def decoded(number, width=320, height=240, pts=None):
    """A frame as aiortc gives it."""
    frame = av.VideoFrame.from_ndarray(pattern(number, width, height), format="rgb24").reformat(format="yuv420p")
    frame.pts = number * 3000 if pts is None else pts
    return frame


def arrival(number, *, damaged=False, **size):
    return Arrival(decoded(number, **size), 1_700_000_000.0 + number / 30, damaged)


def stamps(inlet, holder, count):
    return [inlet.take(holder).frame.pts // 3000 for _ in range(count)]


def test_the_newest_pictures_win():
    lost = []
    inlet = Inlet(lambda: lost.append(1))
    holder = inlet.hold()
    for number in range(BOUND + 3):
        inlet.put(arrival(number))
    assert len(lost) == 3
    assert stamps(inlet, holder, BOUND) == list(range(3, BOUND + 3))


def test_there_is_one_reader_at_a_time():
    inlet = Inlet()
    first = inlet.hold()
    got = []
    thread = threading.Thread(target=lambda: got.append(inlet.take(first)))
    thread.start()
    second = inlet.hold()
    thread.join(60)
    assert got == [None], "who held it before is let go, without a picture"
    inlet.put(arrival(1))
    assert inlet.take(first) is None
    assert inlet.take(second).frame.pts == 3000


def test_what_waits_is_given_out_before_the_end():
    inlet = Inlet()
    holder = inlet.hold()
    inlet.put(arrival(7))
    inlet.close()
    assert inlet.take(holder).frame.pts == 21000
    assert inlet.take(holder) is None
    assert inlet.over


def test_frames_of_a_session():
    inlet = Inlet()
    source = WebRtcSource("cam", inlet)
    assert (source.uri, source.live, source.recorded) == ("whip:cam", True, False)
    with source.open(3) as connection:
        inlet.received_bytes = 500
        for number, damaged in ((1, True), (2, False), (4, False)):
            inlet.put(arrival(number, damaged=damaged))
        inlet.close()
        frames = list(connection)
        assert [read_stamp(frame.picture) for frame in frames] == [1, 2, 4]
        assert [frame.damaged for frame in frames] == [True, False, False]
        assert [round(frame.pts, 3) for frame in frames] == [0.0, 0.033, 0.1]
        assert {(frame.stream, frame.session, frame.clock) for frame in frames} == {("cam", 3, "arrival")}
        assert frames[0].captured_at == pytest.approx(1_700_000_000.0, abs=0.001), "one frame before it came"
        assert [frame.ticks for frame in frames] == [3000, 6000, 12000]
        assert (connection.info.width, connection.info.height) == (320, 240)
        assert connection.received_bytes == 500
        assert connection.clock_offset is None
        assert connection.recording is None
        assert connection.finished


def test_another_size_is_another_session():
    """A browser that has to save bit rate sends smaller pictures: tracks start afresh, and no picture is lost."""
    inlet, told = Inlet(), []

    class Listener:
        def opened(self, session, connection):
            told.append((session, connection.info.width))

        def frame(self, frame):
            told.append(read_stamp(frame.picture))

        def degraded(self, session, frozen):
            raise AssertionError(frozen)

        def closed(self, session, reason, words):
            told.append(reason)

        def retrying(self, reason, words, delay):
            pass

    for number in (1, 2):
        inlet.put(arrival(number))
    for number in (3, 4):
        inlet.put(arrival(number, width=240, height=180))
    inlet.close()
    LiveFeed(WebRtcSource("cam", inlet), settings=FeedSettings(poll=0.01)).run(Listener())
    assert told == [(1, 320), 1, 2, "changed", (2, 240), 3, 4, "ended"]


def test_a_picture_that_is_too_small_to_work_on():
    inlet = Inlet()
    frame = av.VideoFrame.from_ndarray(np.zeros((12, 8), np.uint8), format="yuv420p")
    frame.pts = 0
    inlet.put(Arrival(frame, 0.0, False))
    with WebRtcSource("cam", inlet).open(1) as connection, pytest.raises(PictureSize, match="whip:cam"):
        next(iter(connection))


# With a real connection between two peers of aiortc.


class Receiving:
    """A connection that takes what an offering peer sends."""

    def __init__(self):
        self.inlet = Inlet(bound=1000)
        self.reception = None

    async def answer(self, offering, limit=2.0):
        self.connection = connection = RTCPeerConnection()
        await connection.setRemoteDescription(await offering.offered())
        self.receiver = connection.getReceivers()[0]
        self.reception = Reception(self.receiver, self.inlet, limit)
        self.running = asyncio.create_task(self.reception.run())
        await offering.answered(connection)

    async def close(self):
        self.running.cancel()
        await self.connection.close()


def numbers(inlet, holder):
    """What came, as (number or None, damaged)."""
    inlet.close()
    found = []
    while (one := inlet.take(holder)) is not None:
        found.append((read_stamp(picture_of(one.frame)), one.damaged))
    return found


def run(scenario):
    asyncio.run(scenario())


CODECS = pytest.mark.parametrize(("codec", "encoded"), [("video/H264", h264), ("video/VP8", vp8)])


@CODECS
def test_pictures_come_in_order_and_sound(codec, encoded):
    units = encoded(patterns(30))

    async def scenario():
        receiving = Receiving()
        async with Offering(Camera(units, until=25), codec) as offering:
            await receiving.answer(offering)
            await until(lambda: len(receiving.inlet._waiting) >= 24)
            found = numbers(receiving.inlet, receiving.inlet.hold())
            assert found == [(number, False) for number in range(len(found))]
            assert not receiving.reception.late
            await receiving.close()

    run(scenario)


def test_what_a_loss_spoils_is_marked_until_the_next_key_frame():
    units = h264(patterns(120), gop=40)

    async def scenario():
        receiving = Receiving()
        async with Offering(Camera(units, until=110)) as offering:
            await receiving.answer(offering)
            await until(lambda: offering.camera.shown >= 10)
            await receiving.receiver._send_rtcp_pli(1)  # what aiortc does when it gives a packet up
            await until(lambda: last(receiving) >= 100)
            found = numbers(receiving.inlet, receiving.inlet.hold())
            damaged = [number for number, spoilt in found if spoilt]
            assert damaged
            assert damaged == list(range(damaged[0], damaged[-1] + 1))
            assert damaged[-1] % 40 == 39, "the next one is a key frame, which heals"
            assert [number for number, _ in found] == list(range(len(found)))
            await receiving.close()

    def last(receiving):
        return receiving.inlet._waiting[-1].frame.pts / 3000 if receiving.inlet._waiting else -1

    run(scenario)


def test_lost_packets_are_sent_again():
    """One in twenty never arrives at first: with retransmission no picture is missing, and none is spoilt."""
    units = h264(patterns(60))

    async def scenario():
        receiving = Receiving()
        async with Offering(Camera(units, until=80)) as offering:
            await receiving.answer(offering)
            await until(lambda: offering.camera.shown >= 5)
            lose(offering.connection, lambda number: number % 20 == 7)
            await until(lambda: len(receiving.inlet._waiting) >= 75)
            found = numbers(receiving.inlet, receiving.inlet.hold())
            assert found[:75] == [(number % 60, False) for number in range(75)]
            await receiving.close()

    run(scenario)


def test_a_backlog_of_the_decoder_is_skipped():
    """The name that aiortc keeps to itself is where it is looked for. No decoder runs before something is received."""

    async def scenario():
        connection = RTCPeerConnection()
        receiver = connection.addTransceiver("video", "recvonly").receiver
        decoder = receiver._RTCRtpReceiver__decoder_queue
        for number in range(50):
            decoder.put(("codec", number))
        assert waiting(receiver) == 50
        skip(receiver)
        assert waiting(receiver) == 0
        for task in (("codec", 1), None):
            decoder.put(task)
        skip(receiver)
        assert decoder.get_nowait() is None, "the sign to end comes through"
        await connection.close()

    run(scenario)
