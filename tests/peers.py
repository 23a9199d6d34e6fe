"""WebRTC peers for tests: aiortc as the other side, in an event loop of the test's own, and what they send.

>>> async def scenario():                                                     # doctest: +SKIP
...     async with Sender(url, token, "cam", camera) as sender:
...         await sender.connected()
>>> asyncio.run(scenario())                                                   # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Self

import aiohttp
import av
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from streamguard.frames import U8

LIMIT = 120.0  # seconds; a busy machine takes its time
TICK = Fraction(1, 90_000)


def h264(frames: Iterable[U8], *, fps: int = 30, gop: int = 30) -> list[bytes]:
    """(H, W, 3) uint8 RGB frames of one size as access units, as a camera of a browser would send them."""
    encoder = None
    units = []
    for rgb in frames:
        if encoder is None:
            encoder = av.CodecContext.create("libx264", "w")
            encoder.height, encoder.width = rgb.shape[:2]
            encoder.pix_fmt, encoder.framerate, encoder.profile = "yuv420p", fps, "Baseline"
            encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "g": str(gop)}
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units


def vp8(frames: Iterable[U8], *, fps: int = 30, gop: int = 30) -> list[bytes]:
    """The same as VP8."""
    encoder = None
    units = []
    for number, rgb in enumerate(frames):
        if encoder is None:
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.height, encoder.width = rgb.shape[:2]
            encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", fps, Fraction(1, fps)
            encoder.bit_rate = 1_000_000
            encoder.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0", "g": str(gop)}
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, fps)
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units


class Camera(MediaStreamTrack):
    """Shows access units of :func:`h264` over and over, in real time; ``until`` that many were shown, if it is set."""

    kind = "video"

    def __init__(self, units: Sequence[bytes], *, fps: int = 30, until: int | None = None) -> None:
        super().__init__()
        self._units = units
        self._fps = fps
        self._until = until
        self._started: float | None = None
        self.shown = 0
        self.frozen = False

    async def recv(self) -> av.Packet[Any]:
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        await asyncio.sleep(max(0.0, self._started + self.shown / self._fps - now))
        while self.frozen or self.shown == self._until:
            await asyncio.sleep(0.05)
        if self.readyState != "live":
            raise MediaStreamError
        packet = av.Packet(self._units[self.shown % len(self._units)])
        packet.pts, packet.time_base = round(self.shown * 90_000 / self._fps), TICK
        self.shown += 1
        return packet


class Peer:
    """One side of a session that the other side answers by HTTP."""

    kind = ""

    def __init__(self, url: str, token: str | None, stream: str) -> None:
        self.url, self.token, self.stream = url, token, stream
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.location = self.etag = ""
        self.answer = ""
        self.headers: Any = {}
        self.status = 0

    @property
    def endpoint(self) -> str:
        return f"{self.url}/{self.kind}/{self.stream}"

    async def offer(self) -> str:
        """The description, with this machine's loopback as the only address."""
        await self.connection.setLocalDescription(await self._described())
        return self.connection.localDescription.sdp

    async def _described(self) -> RTCSessionDescription:
        at_loopback(self.connection)
        return await self.connection.createOffer()

    async def open(self, sdp: str | None = None) -> int:
        """POST the offer and take the answer. Returns the status."""
        sdp = await self.offer() if sdp is None else sdp
        status, headers, body = await self.ask("POST", self.endpoint, sdp, "application/sdp")
        self.status, self.headers, self.answer = status, headers, body
        if status == 201:
            self.location, self.etag = self.url + headers["Location"], headers["ETag"]
            await self.connection.setRemoteDescription(RTCSessionDescription(body, "answer"))
        return status

    async def ask(
        self, method: str, url: str, body: str | None = None, kind: str | None = None, **headers: str
    ) -> tuple[int, Any, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        sent |= {"Content-Type": kind} if kind else {}
        async with aiohttp.ClientSession() as client, client.request(method, url, data=body, headers=sent) as answer:
            return answer.status, answer.headers, await answer.text()

    async def end(self) -> int:
        """DELETE the session."""
        status, _, _ = await self.ask("DELETE", self.location)
        return status

    async def connected(self) -> None:
        """Wait until media can flow."""
        await until(lambda: self.connection.connectionState == "connected")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.connection.close()


class Offering:
    """A peer that sends a camera to another one in this process, without a server between them."""

    def __init__(self, camera: Camera, codec: str = "video/H264") -> None:
        self.camera = camera
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = self.connection.addTransceiver(camera, "sendonly")
        served = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in served if c.mimeType in (codec, "video/rtx")])

    async def offered(self) -> RTCSessionDescription:
        """The offer."""
        at_loopback(self.connection)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription

    async def answered(self, other: RTCPeerConnection) -> None:
        """Take the other's answer."""
        at_loopback(other)
        await other.setLocalDescription(await other.createAnswer())
        await self.connection.setRemoteDescription(other.localDescription)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.connection.close()


def at_loopback(connection: RTCPeerConnection) -> None:
    """Offer this machine's loopback as the only address."""
    for receiver in connection.getReceivers():
        ice = receiver.transport.transport.iceGatherer._connection
        ice.get_component_candidates = partial(_gathered, ice)


async def _gathered(ice: Any, component: int, addresses: list[str], timeout: int = 5) -> Any:
    return await type(ice).get_component_candidates(ice, component, ["127.0.0.1"], timeout)


def lose(connection: RTCPeerConnection, which: Callable[[int], bool]) -> None:
    """Lose packets of RTP on their way out, those whose number, from 0 on, ``which`` is true of."""
    transport = connection.getSenders()[0].transport
    send = transport._send_rtp
    sent = itertools.count()

    async def some(data: bytes) -> None:
        if 192 <= data[1] <= 223 or not which(next(sent)):  # RTCP goes through (RFC 5761, 4)
            await send(data)

    transport._send_rtp = some


class Sender(Peer):
    """Sends a camera by WHIP; ``events`` are what came on the data channel."""

    kind = "whip"

    def __init__(
        self, url: str, token: str | None, stream: str, camera: MediaStreamTrack, *, codec: str = "video/H264"
    ) -> None:
        super().__init__(url, token, stream)
        self.events: list[dict[str, Any]] = []
        self.camera = camera
        transceiver = self.connection.addTransceiver(camera, "sendonly")
        served = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in served if c.mimeType in (codec, "video/rtx")])
        # Behind the video: aiortc would lose the transport of a bundle that begins with its channel.
        self.channel: RTCDataChannel = self.connection.createDataChannel("streamguard")
        self.channel.on("message", lambda text: self.events.append(json.loads(text)))


class Viewer(Peer):
    """Watches by WHEP; ``frames`` are decoded pictures, the newest last."""

    kind = "whep"

    def __init__(self, url: str, token: str | None, stream: str) -> None:
        super().__init__(url, token, stream)
        self.frames: list[av.VideoFrame] = []
        self.ended = False
        self.connection.addTransceiver("video", "recvonly")
        self.connection.on("track", self._began)

    def _began(self, track: MediaStreamTrack) -> None:
        self._task = asyncio.ensure_future(self._watch(track))

    async def _watch(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                self.frames.append(await track.recv())
            except MediaStreamError:
                self.ended = True
                return


async def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit} s"
        await asyncio.sleep(0.05)
