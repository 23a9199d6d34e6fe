"""Streams that a WebRTC peer sends: from aiortc's track in the event loop to frames in the thread that watches them.

aiortc decodes in a thread of its own and lets what is not taken wait without a bound. So a :class:`Reception` takes
every picture at once and puts it into an :class:`Inlet`, where the newest win; a :class:`WebRtcSource` gives them out
to whoever watches the stream, session after session, for as long as the peer is there.

Events carry the clock ``arrival``: a browser's sender reports name its own wall clock, but aiortc does not say which
timestamp they belong to. A picture counts as taken one frame before it came, since it is complete when the next begins.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast

import av
from aiortc import RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from streamguard.frames import Frame
from streamguard.ingest.capture import CaptureClock
from streamguard.ingest.connection import Keeping, SourceOptions, StreamInfo
from streamguard.ingest.network import PictureChanged
from streamguard.ingest.reencoding import RATE, Reencoder
from streamguard.ingest.tape import Tape
from streamguard.ingest.timeline import Damage, StreamTime
from streamguard.ingest.watchdog import Lateness
from streamguard.pixels import check_size, picture_of

BOUND: Final = 8
"""Pictures that may wait in an inlet; the oldest goes for the newest."""

_USUAL_RATE: Final = 30.0
_BACKLOG: Final = 45  # pictures that wait for aiortc's decoder: it is too slow, and shall skip to a key frame
_REMEMBERED: Final = 16  # key frames between the network and the decoder's end
_PATIENCE: Final = 1.0  # seconds from one request for a key frame to the next


class Arrival(NamedTuple):
    """A decoded picture, when it came (Unix time, seconds), and whether a loss shows in it."""

    frame: av.VideoFrame
    at: float
    damaged: bool


class Inlet:
    """The crossing between the event loop, which puts pictures in, and the thread that watches the stream.

    One reader at a time: whoever holds it last. ``dropped`` is called for each picture that gave way to a newer one.
    """

    def __init__(self, dropped: Callable[[], None] = lambda: None, bound: int = BOUND) -> None:
        self.received_bytes = 0
        """Of the peer so far, as its transport counts them."""
        self._dropped = dropped
        self._bound = bound
        self._waiting: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._holder = 0
        self._over = False

    @property
    def over(self) -> bool:
        """The peer is gone."""
        return self._over

    def put(self, arrival: Arrival) -> None:
        """A picture came; never waits."""
        with self._changed:
            full = len(self._waiting) == self._bound
            if full:
                self._waiting.popleft()
            self._waiting.append(arrival)
            self._changed.notify_all()
        if full:
            self._dropped()

    def hold(self) -> int:
        """Become the reader; the one before gets nothing more."""
        with self._changed:
            self._holder += 1
            self._changed.notify_all()
            return self._holder

    def take(self, holder: int) -> Arrival | None:
        """The oldest picture; waits for it. None: there is another reader, or the peer is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over or holder != self._holder)
            return self._waiting.popleft() if self._waiting and holder == self._holder else None

    def give_back(self, arrival: Arrival) -> None:
        """The next reader is to begin with this one."""
        with self._changed:
            self._waiting.appendleft(arrival)

    def close(self) -> None:
        """The peer is gone: whoever reads hears of it, after what waits."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Reception:
    """Takes everything that a peer's video receiver gives, in the event loop. ``late`` once it stays behind."""

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        inlet: Inlet,
        limit: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``limit``: seconds by which pictures may stay behind."""
        self.late = False
        self._receiver = receiver
        self._inlet = inlet
        self._clock = clock
        self._wall = wall
        self._lateness = Lateness(limit)
        self._damage = Damage()
        self._damage.lost()  # whatever comes in front of the first key frame
        self._asked = clock()
        # FFmpeg's libvpx, by which aiortc decodes VP8, does not say which pictures are key frames: their packets do.
        self._keys: deque[int] = deque(maxlen=_REMEMBERED)
        decoder = _decoder_queue(receiver)
        self._decode = decoder.put
        decoder.put = self._passed  # type: ignore[method-assign]
        self._ask = receiver._send_rtcp_pli
        # aiortc asks for a key frame when it has given packets up, or could not decode: nothing else tells of a loss.
        receiver._send_rtcp_pli = self._lost  # type: ignore[method-assign]

    async def run(self) -> None:
        """Until the track ends."""
        while True:
            try:
                frame = cast(av.VideoFrame, await self._receiver.track.recv())
            except MediaStreamError:
                return
            await self._take(frame)

    async def _take(self, frame: av.VideoFrame) -> None:
        now = self._clock()
        pts = (frame.pts or 0) / RATE
        self.late = self._lateness.fed(pts, now)
        key = frame.key_frame or frame.pts in self._keys
        damaged = self._damage.judge(pts, corrupt=frame.is_corrupt, keyframe=key)
        self._inlet.put(Arrival(frame, self._wall(), damaged))
        if waiting(self._receiver) > _BACKLOG:
            skip(self._receiver)
            self._damage.lost()
            damaged = True
        if damaged and now - self._asked >= _PATIENCE:
            self._asked = now
            for source in self._receiver.getSynchronizationSources():
                await self._ask(source.source)

    def _passed(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """An encoded picture on its way to the decoder, or None: the last."""
        if item is not None:
            codec, encoded = item
            if codec.name == "VP8" and encoded.data and not encoded.data[0] & 1:  # RFC 6386, 9.1
                self._keys.append(encoded.timestamp)
        self._decode(item, block, timeout)

    async def _lost(self, media_ssrc: int) -> None:
        self._damage.lost()
        self._asked = self._clock()
        await self._ask(media_ssrc)


async def drain(track: MediaStreamTrack) -> None:
    """Take what nobody wants: aiortc keeps it for ever otherwise."""
    while True:
        try:
            await track.recv()
        except MediaStreamError:
            return


def waiting(receiver: RTCRtpReceiver) -> int:
    """Pictures that wait for the decoder. aiortc does not tell; tests hold its private name."""
    return _decoder_queue(receiver).qsize()


def skip(receiver: RTCRtpReceiver) -> None:
    """Forget what waits for the decoder. Stopping a receiver blocks the loop until all of that is decoded."""
    waiting = _decoder_queue(receiver)
    try:
        while True:
            if waiting.get_nowait() is None:  # the sign to end: it has to come through
                waiting.put(None)
                return
    except queue.Empty:
        return


def _decoder_queue(receiver: RTCRtpReceiver) -> queue.Queue[Any]:
    found: queue.Queue[Any] = getattr(receiver, "_RTCRtpReceiver__decoder_queue")  # noqa: B009
    return found


class WebRtcSource(Keeping):
    """A stream that a peer sends, for as long as it does. ``recorded``: evidence may be kept of it."""

    live = True

    def __init__(self, name: str, inlet: Inlet, *, recorded: bool = False) -> None:
        self.name = name
        self.uri = f"whip:{name}"
        self.recorded = recorded
        self._inlet = inlet
        self._options = SourceOptions()

    def open(self, session: int) -> WebRtcConnection:
        """Read what comes from now on."""
        return WebRtcConnection(self, self._inlet, session, self._options)

    def close(self) -> None:
        """The peer is gone: so is the source."""
        self._inlet.close()


class WebRtcConnection:
    """One session: pictures of one size."""

    clock_offset: float | None = None

    def __init__(self, source: WebRtcSource, inlet: Inlet, session: int, options: SourceOptions) -> None:
        self._source = source
        self._inlet = inlet
        self._session = session
        self._options = options
        self._holder = inlet.hold()
        self._before = inlet.received_bytes
        self._time = StreamTime(_USUAL_RATE)
        self._clock = CaptureClock(_USUAL_RATE)
        self._encoder: Reencoder | None = None
        self.info = StreamInfo(0, 0, None, "webrtc", None, False)

    @property
    def finished(self) -> bool:
        """The peer is gone, and nobody waits for another."""
        return self._inlet.over

    skipped_frames = 0  # a session that stays behind is ended

    @property
    def received_bytes(self) -> int:
        """All that the peer has sent in this session: its sound and its reports too."""
        return self._inlet.received_bytes - self._before

    @property
    def recording(self) -> Tape | None:
        """What is kept for clips, encoded again."""
        return None if self._encoder is None else self._encoder.tape

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._encoder is not None:
            self._encoder.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            PictureChanged: the picture has another size: browsers send less when they have to.
            PictureSize: a picture that is too small or too large.
        """
        index = 0
        while (arrival := self._inlet.take(self._holder)) is not None:
            if index == 0:
                self._begin(arrival.frame)
            yield self._frame(arrival, index)
            index += 1

    def _begin(self, frame: av.VideoFrame) -> None:
        check_size(frame.width, frame.height, self._source.uri)
        self.info = StreamInfo(frame.width, frame.height, None, "webrtc", None, False)
        even = frame.width % 2 == 0 and frame.height % 2 == 0  # H.264 of 4:2:0 takes no others
        if even and self._options.keep_seconds > 0 and self._source.recorded:
            self._encoder = Reencoder(frame, self._options)

    def _frame(self, arrival: Arrival, index: int) -> Frame:
        frame = arrival.frame
        if (frame.width, frame.height) != (self.info.width, self.info.height):
            self._inlet.give_back(arrival)
            raise PictureChanged(
                f"'{self._source.uri}' changed from {self.info.width}x{self.info.height} pixels to"
                f" {frame.width}x{frame.height}."
            )
        if self._encoder is not None:
            self._encoder.keep(frame)
        ticks = frame.pts
        pts = self._time.at(None if ticks is None else ticks / RATE)
        taken = self._clock.capture(None, arrival.at)
        picture = picture_of(frame)
        return Frame(
            self._source.name,
            self._session,
            index,
            pts,
            taken.at,
            taken.clock,
            picture,
            arrival.damaged,
            ticks,
        )
