"""WebRTC peers by aiortc: one that sends a stream, one that watches one.

What this library can't be told through its own face is done in a few named places here and in
:mod:`streamguard.ingest.webrtc`, tests hold each of them, and its minor version is pinned:

- it offers addresses of its own choice: :meth:`Peer._gather_at`;
- it sends given packets as they are, whatever key frames their receiver asks for: :class:`ViewingPeer`;
- it asks the public STUN server of a third party unless told of others: :meth:`Peer.__init__` always tells.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

import av
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.sdp import candidate_from_sdp

from streamguard.access import WebRtcSettings
from streamguard.delivery.viewing import Viewing
from streamguard.ingest.webrtc import Inlet, Reception, drain, skip
from streamguard.server.feed import EventFeed
from streamguard.server.problems import Problem
from streamguard.server.sdp import Fragment, Offer, no_common_codec, with_bitrates

log = logging.getLogger(__name__)

CHANNEL: Final = "streamguard"
"""The label of the data channel that events go out on; the sender opens it."""

_ANSWERING: Final = 10.0  # seconds; gathering through TURN takes up to five
_CLOSING: Final = 5.0  # seconds
_UNSENT: Final = 256 * 1024  # bytes that may wait in a data channel
_BREATH: Final = 0.1  # seconds from one look at a full channel to the next
_QUIET: Final = 15.0  # seconds that a teller waits for an event before it looks whether its channel is open still
STRANGE: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    InternalError,
    InvalidAccessError,
    InvalidStateError,
)
"""What aiortc raises on what is wrong in ways that nobody looks for here."""


@dataclass(frozen=True, slots=True)
class Ice:
    """A STUN or TURN server with its password."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


class Traffic(NamedTuple):
    """What a peer's transport has carried so far, ICE left out: bytes and packets."""

    received_bytes: int
    received: int
    sent: int


class Peer:
    """One connection. Everything here runs in the event loop that it was made in."""

    def __init__(self, settings: WebRtcSettings, servers: Sequence[Ice]) -> None:
        self._settings = settings
        policy = RTCIceTransportPolicy.RELAY if settings.relay_only else RTCIceTransportPolicy.ALL
        ice = [RTCIceServer(list(server.urls), server.username, server.credential) for server in servers]
        self._connection = RTCPeerConnection(RTCConfiguration(ice, policy, RTCBundlePolicy.MAX_BUNDLE))
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` or ``closed``."""
        return self._connection.connectionState

    @property
    def over(self) -> str | None:
        """Why this side is done with it, or None."""
        return None

    async def answer(self, offer: Offer) -> str:
        """Take an offer. Returns the answer, with all addresses of this side.

        Raises:
            Problem: it can't be answered, or not in time.
        """
        try:
            async with asyncio.timeout(_ANSWERING):
                await self._connection.setRemoteDescription(RTCSessionDescription(offer.text, "offer"))
                self._begin()
                self._gather_at(self._connection.getReceivers()[0])  # one transport carries everything
                await self._connection.setLocalDescription()
        except OperationError:
            raise no_common_codec() from None
        except TimeoutError:
            raise Problem(504, "ice", "no address of this side was found in time") from None
        except STRANGE as error:
            raise Problem(400, "sdp", f"the offer can't be answered: {type(error).__name__}") from None
        return self._connection.localDescription.sdp

    def _begin(self) -> None:
        """The offer is taken; the answer comes next."""

    def _gather_at(self, receiver: RTCRtpReceiver) -> None:
        """Offer the addresses of the settings instead of aioice's choice, which leaves the loopback out."""
        named = list(self._settings.addresses)
        if not named or self._settings.relay_only:
            return
        connection = receiver.transport.transport.iceGatherer._connection
        gather = connection.get_component_candidates

        async def at(component: int, addresses: list[str], timeout: int = 5) -> list[Any]:
            return list(await gather(component, named, timeout))

        connection.get_component_candidates = at  # type: ignore[method-assign]

    async def trickle(self, fragment: Fragment, mid: str) -> None:
        """Take further addresses of the other side. One that can't be used is left out (RFC 9725, 4.3.2)."""
        for text in fragment.candidates:
            try:
                candidate = candidate_from_sdp(text)
                candidate.sdpMid = mid
                await self._connection.addIceCandidate(candidate)
            except STRANGE:
                continue
        if fragment.ended:
            await self._connection.addIceCandidate(None)

    async def traffic(self) -> Traffic:
        """What went to and fro."""
        report = await self._connection.getStats()
        carried = [stats for stats in report.values() if stats.type == "transport"]
        return Traffic(
            sum(stats.bytesReceived for stats in carried),
            sum(stats.packetsReceived for stats in carried),
            sum(stats.packetsSent for stats in carried),
        )

    async def close(self) -> None:
        """End it and free what it holds. May be called again."""
        for task in self._tasks:
            task.cancel()
        for receiver in self._connection.getReceivers():
            skip(receiver)
        try:
            async with asyncio.timeout(_CLOSING):
                await self._connection.close()
        except TimeoutError:
            log.warning("a peer did not close within %g s", _CLOSING)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done for as long as the peer is there."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a peer's work failed", exc_info=error)


class Teller:
    """Tells a sender what is said of its stream: the events of ``feed`` behind number ``at``."""

    def __init__(self, feed: EventFeed, stream: str, at: int) -> None:
        self._feed = feed
        self._stream = stream
        self._at = at

    async def tell(self, channel: RTCDataChannel) -> None:
        """Until the channel closes. Whoever takes less than comes loses the oldest, never the newest."""
        while channel.readyState == "open" and await self._feed.wait(self._at, _QUIET):
            for number, event in self._feed.after(self._at).events:
                while channel.readyState == "open" and channel.bufferedAmount > _UNSENT:
                    await asyncio.sleep(_BREATH)
                if channel.readyState != "open":
                    return
                self._at = number
                if event["data"]["stream"] == self._stream:
                    channel.send(json.dumps(event))


class SendingPeer(Peer):
    """A peer that sends a stream; its video goes into ``inlet``, everything else is taken and forgotten."""

    def __init__(self, settings: WebRtcSettings, servers: Sequence[Ice], inlet: Inlet, teller: Teller) -> None:
        super().__init__(settings, servers)
        self._inlet = inlet
        self._teller = teller
        self._told = False
        self._reception: Reception | None = None
        self._connection.on("datachannel", self._opened)

    @property
    def over(self) -> str | None:
        """``late``: what comes stays behind."""
        return "late" if self._reception is not None and self._reception.late else None

    async def answer(self, offer: Offer) -> str:
        """See :meth:`Peer.answer`; the answer asks for the whole picture at once."""
        return with_bitrates(await super().answer(offer), self._settings.bitrate)

    def _begin(self) -> None:
        for transceiver in self._connection.getTransceivers():
            track = cast("MediaStreamTrack | None", transceiver.receiver.track)
            if transceiver.kind == "video":
                self._reception = Reception(transceiver.receiver, self._inlet, self._settings.late)
                self._run(self._reception.run())
            elif track is not None:  # else it is offered, and not sent
                self._run(drain(track))

    def _opened(self, channel: RTCDataChannel) -> None:
        if channel.label == CHANNEL and not self._told:
            self._told = True
            self._run(self._teller.tell(channel))

    async def traffic(self) -> Traffic:
        """See :meth:`Peer.traffic`; the inlet is told too."""
        found = await super().traffic()
        self._inlet.received_bytes = found.received_bytes
        return found


class ViewingPeer(Peer):
    """A peer that watches: the packets of ``viewing``, which are encoded once for all."""

    def __init__(self, settings: WebRtcSettings, servers: Sequence[Ice], viewing: Viewing) -> None:
        super().__init__(settings, servers)
        self._track = ViewingTrack(viewing)
        transceiver = self._connection.addTransceiver(self._track, "sendonly")
        served = RTCRtpSender.getCapabilities("video").codecs
        # Without rtx in the list nothing that is lost is sent again.
        transceiver.setCodecPreferences([c for c in served if c.mimeType in ("video/H264", "video/rtx")])
        transceiver.sender._send_keyframe = viewing.refresh  # type: ignore[method-assign]

    @property
    def over(self) -> str | None:
        """``ended``: the stream is gone."""
        return "ended" if self._track.readyState == "ended" else None

    def _begin(self) -> None:
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind == "audio":
                transceiver.direction = "inactive"

    async def close(self) -> None:
        """See :meth:`Peer.close`."""
        self._track.stop()
        await super().close()


class ViewingTrack(MediaStreamTrack):
    """A viewing as aiortc takes it: packets instead of pictures, which it only cuts up and sends."""

    kind = "video"

    def __init__(self, viewing: Viewing) -> None:
        super().__init__()
        self._viewing = viewing

    async def recv(self) -> av.Packet[Any]:
        """The next packet.

        Raises:
            MediaStreamError: the stream is gone.
        """
        try:
            encoded = await self._viewing.next()
        except StopAsyncIteration:
            self.stop()
            raise MediaStreamError from None
        return encoded.packet

    def stop(self) -> None:
        """End the viewing too."""
        self._viewing.close()
        super().stop()
