"""Peers: what is offered to them, what they are told, and the picture that they watch; over real connections."""

import asyncio

import numpy as np
import pytest

from streamguard.access import BitrateSettings, IceServer, WebRtcSettings
from streamguard.ingest.webrtc import Inlet
from streamguard.pixels import picture_of
from streamguard.server.feed import EventFeed
from streamguard.server.sdp import read_offer
from streamguard.server.webrtc import Ice, SendingPeer, Teller
from streamguard.server.whip import _link
from tests.media import read_stamp
from tests.peers import Camera, Sender, Viewer, until
from tests.server.conftest import HERE
from tests.serving import flagged


async def answered(settings, servers=()):
    """The answer to a sender's offer, and what ICE was told of."""
    async with Sender("http://127.0.0.1:1", "t", "cam", Camera([b""])) as sender:
        peer = SendingPeer(settings, servers, Inlet(), Teller(EventFeed(), "cam", 0))
        answer = await peer.answer(read_offer((await sender.offer()).encode()))
        ice = peer._connection.getReceivers()[0].transport.transport.iceGatherer._connection
        await peer.close()
        return answer, ice


def test_an_answer():
    """Retransmission stays: without it a lost packet costs seconds. Bit rate lines bring the whole picture at once."""
    settings = WebRtcSettings(addresses=HERE, bitrate=BitrateSettings(100, 200, 300))
    answer, ice = asyncio.run(answered(settings))
    lines = answer.split("\r\n")
    candidates = [line for line in lines if line.startswith("a=candidate:")]
    assert candidates
    assert all(" 127.0.0.1 " in line for line in candidates), "the addresses that are named, and no others"
    assert "a=end-of-candidates" in lines
    assert any(line.startswith("a=rtpmap:") and "rtx/90000" in line for line in lines)
    assert sum("x-google-start-bitrate=200" in line for line in lines) >= 1
    assert "a=recvonly" in lines
    assert "a=sendonly" not in lines
    assert ice.stun_server is None, "nobody outside is asked for this machine's address"
    assert ice.turn_server is None


def test_turn_is_used_where_it_is_named():
    ice_server = Ice(("turn:127.0.0.1:9?transport=udp",), "ann", "pa ss")
    settings = WebRtcSettings(addresses=HERE, ice_servers=(IceServer(ice_server.urls, "ann"),))

    async def scenario():
        from streamguard.server.webrtc import Peer

        peer = Peer(settings, [ice_server])
        receiver = peer._connection.addTransceiver("video", "recvonly").receiver
        ice = receiver.transport.transport.iceGatherer._connection
        await peer.close()
        return ice

    ice = asyncio.run(scenario())
    assert (ice.turn_server, ice.turn_username, ice.turn_password) == (("127.0.0.1", 9), "ann", "pa ss")
    assert "pa ss" not in repr(ice_server)


def test_ice_servers_are_told_as_links():
    assert _link("stun:stun.example.org:3478", Ice(("stun:stun.example.org:3478",))) == (
        '<stun:stun.example.org:3478>; rel="ice-server"'
    )
    assert _link("turn:t.example.org", Ice(("turn:t.example.org",), 'a"b', "c\\d")) == (
        '<turn:t.example.org>; rel="ice-server"; username="a\\"b"; credential="c\\\\d"; credential-type="password"'
    )


class Channel:
    """A data channel whose buffer is as full as it is told to be."""

    def __init__(self):
        self.readyState = "open"
        self.bufferedAmount = 0
        self.sent = []

    def send(self, text):
        self.sent.append(text)


def test_who_takes_little_loses_the_oldest():
    async def scenario():
        feed, channel = EventFeed(bound=10), Channel()
        feed.attach(asyncio.get_running_loop())
        feed.take(flagged(1, "cam"))
        telling = asyncio.create_task(Teller(feed, "cam", 0).tell(channel))
        await until(lambda: len(channel.sent) == 1)
        channel.bufferedAmount = 10**6
        for number in range(2, 40):
            feed.take(flagged(number, "cam" if number % 2 else "other"))
        await asyncio.sleep(0.3)
        assert len(channel.sent) == 1, "it waits"
        channel.bufferedAmount = 0
        await until(lambda: "s39" in channel.sent[-1])
        assert len(channel.sent) <= 40
        assert all('"stream": "cam"' in text for text in channel.sent)
        channel.readyState = "closed"
        feed.detach()
        await telling

    asyncio.run(scenario())


# WHEP.


def test_a_stream_is_watched_by_two_and_leaves_with_its_sender(call, house, units, stream):
    async def scenario(served):
        url = served.server.url
        async with (
            Sender(url, served.sender, stream, Camera(units)) as sender,
            Viewer(url, served.viewer, stream) as one,
            Viewer(url, served.viewer, stream) as two,
        ):
            assert await one.open() == 409, "nothing is sent yet"
            assert int(one.headers["Retry-After"]) > 0
            assert await sender.open() == 201
            await until(lambda: house.frames(stream) > 0)
            async with Viewer(url, served.viewer, stream) as again:
                assert await again.open() == 201
                assert again.headers["Location"].startswith(f"/whep/{stream}/")
                assert "H264/90000" in again.answer
                assert "VP8" not in again.answer
                assert "rtx/90000" in again.answer
                assert await two.open() == 201
                await until(lambda: len(again.frames) > 5 and len(two.frames) > 5)
                picture = picture_of(two.frames[-1])
                assert (picture.width, picture.height) == (320, 240)
                assert read_stamp(picture) is None or np.ptp(picture.y) > 50, "a picture, not a grey field"
                assert served.metrics.registry.get_sample_value("streamguard_webrtc_peers", {"kind": "whep"}) == 2
                assert await again.end() == 200
            await until(
                lambda: served.metrics.registry.get_sample_value("streamguard_webrtc_peers", {"kind": "whep"}) == 1
            )
            assert await sender.end() == 200
            await until(lambda: two.ended)
            await until(
                lambda: served.metrics.registry.get_sample_value("streamguard_webrtc_peers", {"kind": "whep"}) == 0
            )

    with call() as served:
        asyncio.run(scenario(served))


def test_a_viewer_that_has_lost_something_gets_a_key_frame(call, house, units, stream):
    """A picture loss indication reaches the encoder: it is made, though the sender of packets would not care."""

    async def scenario(served):
        url = served.server.url
        async with (
            Sender(url, served.sender, stream, Camera(units)) as sender,
            Viewer(url, served.viewer, stream) as viewer,
        ):
            assert await sender.open() == 201
            await until(lambda: house.frames(stream) > 0)
            assert await viewer.open() == 201
            await until(lambda: len(viewer.frames) > 5)
            before = sum(frame.key_frame for frame in viewer.frames)
            receiver = viewer.connection.getReceivers()[0]
            for source in receiver.getSynchronizationSources():
                await receiver._send_rtcp_pli(source.source)
            await until(lambda: sum(frame.key_frame for frame in viewer.frames) > before)

    with call() as served:
        asyncio.run(scenario(served))


@pytest.mark.parametrize("role", ["sender", "nobody"])
def test_who_may_not_watch(call, role, stream):
    async def scenario(served):
        token = served.sender if role == "sender" else None
        async with Viewer(served.server.url, token, stream) as viewer:
            assert await viewer.open() == (403 if token else 401)

    with call() as served:
        asyncio.run(scenario(served))
