"""The picture of a stream as people see it: drawn once, encoded once, for all who watch.

A tap at the decoder thread gives every frame; the newest wins, one waits. Drawing and encoding run in a thread of the
broadcast's own, started by the first viewer and ended after the last: nothing is drawn or encoded unless somebody
watches. The inference thread has no part in it. It leaves an immutable snapshot behind, which is read; when it stops,
the picture goes on, and says that it is not analysed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import av

from streamguard.delivery import overlay
from streamguard.delivery.encoder import TICKS, Encoder, KeyFrames, PictureForm, Sheet
from streamguard.delivery.overlay import Shown
from streamguard.delivery.stills import Stills
from streamguard.delivery.viewing import Encoded, Heard, Viewing
from streamguard.frames import Frame, Picture, StreamSnapshot
from streamguard.media import MediaFormat, MediaPacket
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

Kind = Literal["webrtc", "hls", "publish", "preview"]
"""Who watches: the label of the gauge of viewers."""

QUIET: Final = 2.0
"""Seconds without a frame after which the last one is shown again, once a second, with the reason on it."""

AGAIN: Final = 1.0
_USUAL_KEYS: Final = 10.0  # seconds from one key frame to the next, if nobody asks for more


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """What people see, and hear, of a stream.

    ``sound``: it is read from sources that have it, and goes with what is published and with HLS, as it came.
    """

    sound: bool = True


class ShowTime:
    """The broadcast's own time: seconds that rise through all sessions of a stream.

    Within a session it goes as stream time does, so that sound stays with its picture. A new session goes on where
    the clock is by then.

    >>> time = ShowTime(epoch=100.0)
    >>> time.begin(now=103.0)
    3.0
    >>> time.picture(3.0 + 0.04), time.picture(3.0 + 0.02) > 3.04
    (3.04, True)
    """

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._last = 0.0

    def begin(self, now: float) -> float:
        """What to add to the stream time of the session that begins ``now``."""
        return max(now - self._epoch, self._last)

    def picture(self, at: float) -> float:
        """When a picture is shown: at that time, or just after the one before."""
        self._last = max(at, self._last + 1 / TICKS)
        return self._last


class _Taken(NamedTuple):
    """A frame in the tap; ``at``: when it is shown."""

    frame: Frame
    at: float


class _Turn(NamedTuple):
    """What the thread has to show, and when: the newest frame, or the last one ``again``."""

    frame: Frame
    at: float
    again: bool


class Broadcast:
    """One stream's picture. Any thread may subscribe; see :class:`~streamguard.delivery.viewing.Viewing`.

    ``standing`` gives the stream as it stands, or None.
    """

    def __init__(
        self,
        stream: str,
        standing: Callable[[], StreamSnapshot | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self._standing = standing
        self._metrics = metrics
        self._clock = clock
        self._time = ShowTime(clock())
        self._changed = threading.Condition()
        self._viewings: dict[Viewing, tuple[Kind, float]] = {}
        self._stills = Stills()
        self._keys = KeyFrames()
        self._slot: _Taken | None = None
        self._offset = 0.0
        self._sound: MediaFormat | None = None
        self._thread: threading.Thread | None = None
        self.gone = threading.Event()

    # The viewers' side.

    @property
    def watched(self) -> bool:
        """Somebody watches."""
        return bool(self._viewings) or self._stills.wanted

    @property
    def closed(self) -> bool:
        """The stream is gone; :attr:`gone` waits for that."""
        return self.gone.is_set()

    @property
    def sound(self) -> MediaFormat | None:
        """The sound of the session under way, if it has any that is passed on."""
        return self._sound

    def subscribe(
        self, *, most: int = 30, kind: Kind = "webrtc", sound: bool = False, keys: float = _USUAL_KEYS
    ) -> Viewing:
        """Watch: H.264, the same packets for all. ``most``: pictures that may wait. The first is a key frame.

        ``sound``: also the packets of sound, for :meth:`Viewing.take`. ``keys``: the longest time in seconds from one
        key frame to the next. Of a stream that is gone, the viewing is over at once.
        """
        lost = self._metrics.pictures_dropped.labels(self.stream, "slow viewer").inc
        viewing = Viewing(most, sound=sound, lost=lost, left=self._leave, ask=self._keys.want)
        with self._changed:
            if self.closed:
                viewing.end()
                return viewing
            self._viewings[viewing] = (kind, keys)
            self._keys.want()
            self._metrics.viewers.labels(self.stream, kind).inc()
            self._work()
        return viewing

    async def still(self, height: int, quality: int) -> bytes:
        """A JPEG of the picture, drawn on, at most ``height`` pixels high: the next one that is made.

        All who wait for that height get the same.

        Raises:
            StopAsyncIteration: the stream is gone.
        """
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self.closed:
                raise StopAsyncIteration
            self._stills.want(height, quality, waiting)
            self._work()
        try:
            return await waiting
        finally:
            with self._changed:
                self._stills.forget(waiting)

    @contextmanager
    def counted(self, kind: Kind) -> Iterator[None]:
        """Count somebody who watches by :meth:`still`, as long as the block lasts."""
        viewers = self._metrics.viewers.labels(self.stream, kind)
        viewers.inc()
        try:
            yield
        finally:
            if not self.closed:  # the gauges of a stream that is gone are gone too
                viewers.dec()

    def _leave(self, viewing: Viewing) -> None:
        with self._changed:
            entry = self._viewings.pop(viewing, None)
            if entry is not None and not self.closed:
                self._metrics.viewers.labels(self.stream, entry[0]).dec()
            self._changed.notify_all()

    def _work(self) -> None:
        """Have the thread run; the lock is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"picture-{self.stream}", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # The decoder's side.

    def opened(self, sound: MediaFormat | None = None) -> None:
        """A session delivers, with that sound."""
        with self._changed:
            self._offset = self._time.begin(self._clock())
            self._sound = sound

    def frame(self, frame: Frame) -> None:
        """A frame was decoded. Never waits; kept only while somebody watches, until the next one comes."""
        if not self.watched:
            return
        with self._changed:
            overtaken, self._slot = self._slot, _Taken(frame, self._offset + frame.pts)
            self._changed.notify_all()
        if overtaken is not None:
            self._metrics.pictures_dropped.labels(self.stream, "overtaken").inc()

    def heard(self, packet: MediaPacket, pts: float) -> None:
        """A packet of sound came, to be heard at ``pts`` of stream time. Never waits."""
        sound = self._sound
        if sound is not None and self._viewings:
            with self._changed:
                viewings = list(self._viewings)
            for viewing in viewings:
                viewing.put(Heard(packet, self._offset + pts, sound))

    def close(self) -> None:
        """The stream is gone: every viewing ends."""
        with self._changed:
            self.gone.set()
            viewings, self._slot = list(self._viewings), None
            self._stills.give_up()
            self._changed.notify_all()
        for viewing in viewings:
            viewing.end()

    # The thread.

    def _run(self) -> None:
        try:
            studio = Studio(self.stream, self._metrics)
            turn: _Turn | None = None
            while (turn := self._next(turn)) is not None:
                self._show(studio, turn)
        finally:
            self._ended()

    def _next(self, before: _Turn | None) -> _Turn | None:
        """Wait for what to show; None when nobody watches any more."""
        patience = AGAIN if before is not None and before.again else QUIET
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._slot is not None or not self.watched or self.closed, patience)
                if self.closed or not self.watched:
                    self._thread = self._slot = None
                    return None
                taken, self._slot = self._slot, None
                if taken is not None:
                    return _Turn(taken.frame, taken.at, again=False)
                if before is not None:
                    return _Turn(before.frame, before.at + patience, again=True)

    def _show(self, studio: Studio, turn: _Turn) -> None:
        with self._changed:
            viewings = dict(self._viewings)
            stills = self._stills.taken()
        frame, standing = turn.frame, self._standing()
        shown = Shown(frame.session, frame.pts, still=turn.again)
        for still in stills:
            still.make(frame.picture, shown, standing)
        if not viewings:
            return
        if any(viewing.blind for viewing in viewings):
            self._keys.want()
        at = self._time.picture(turn.at)
        key = self._keys.now(at, min(keys for _, keys in viewings.values()))
        encoded = studio.encode(frame.picture, at, shown, standing, key=key)
        if encoded is None:
            self._keys.want()
            self._metrics.pictures_dropped.labels(self.stream, "encoder").inc()
            return
        for viewing in viewings:
            viewing.put(encoded)

    def _ended(self) -> None:
        """However the thread ends, nobody waits for it for ever."""
        with self._changed:
            if self._thread is not threading.current_thread():
                return
            self._thread = self._slot = None
            self._stills.give_up()
            viewings = list(self._viewings)
        for viewing in viewings:
            viewing.end()


class Studio:
    """Draws and encodes, in the thread that owns it. A picture of another size or colour takes a new encoder."""

    def __init__(self, stream: str, metrics: Metrics) -> None:
        self._stream = stream
        self._drawing = metrics.stage_duration.labels("draw")
        self._encoding = metrics.stage_duration.labels("encode")
        self._encoded = metrics.pictures_encoded.labels(stream)
        self._encoder: Encoder | None = None

    def encode(
        self, picture: Picture, at: float, shown: Shown, standing: StreamSnapshot | None, *, key: bool
    ) -> Encoded | None:
        """The picture with what is drawn on it, shown at ``at`` seconds; None where the encoder refuses it."""
        form = PictureForm.of(picture)
        encoder = self._encoder
        if encoder is None or encoder.form != form:
            encoder, key = Encoder(form), True
        with self._drawing.time():
            sheet = Sheet(picture, form)
            overlay.draw(sheet.canvas, shown, standing)
        try:
            with self._encoding.time():
                packet = encoder.encode(sheet, at, key=key)
        except av.FFmpegError as error:
            log.error(
                "stream '%s': a picture of %dx%d was not encoded: %s", self._stream, *sheet.size, type(error).__name__
            )
            packet = encoder = None
        self._encoder = encoder
        if packet is None:
            return None
        self._encoded.inc()
        return Encoded(packet, at, packet.is_keyframe, sheet.size)
