"""Encoded pictures and the sound that goes with them, into a container that is written as they come."""

from __future__ import annotations

from collections.abc import Set
from fractions import Fraction
from typing import Any, Final

import av

from streamguard.delivery.encoder import TICKS
from streamguard.delivery.viewing import Encoded, Heard
from streamguard.media import MediaFormat

# A muxer puts sound and pictures in order: no picture waits longer than this for sound that does not come.
INTERLEAVE: Final = {"max_interleave_delta": "200000"}  # microseconds

_BASE: Final = Fraction(1, TICKS)
_LAST: Final = 0.04  # seconds that the last picture of all is shown


class Reel:
    """One container that begins with the key frame ``first``; times in it count from there.

    ``sound`` is written as it came if ``codecs`` names its codec, and left out if not. ``lasting``: the container
    states how long each picture lasts, so one is held back until the next comes. The packets handed in stay as they
    are.
    """

    def __init__(
        self,
        out: av.container.OutputContainer,
        first: Encoded,
        sound: MediaFormat | None,
        codecs: Set[str],
        *,
        lasting: bool = False,
    ) -> None:
        self._out = out
        self._start = first.pts
        self._lasting = lasting
        self._held: Encoded | None = None
        self.size = first.size
        width, height = first.size
        self._video = out.add_mux_stream("h264", width=width, height=height, time_base=_BASE)
        self._codecs = codecs
        self._sound = self._taken(sound)
        self._audio: Any = None
        if self._sound is not None and self._sound.audio is not None:
            self._audio = out.add_stream_from_template(self._sound.audio, opaque=True)
        self._heard: int | None = None  # timestamp of the last packet of sound

    def fits(self, item: Encoded | Heard, sound: MediaFormat | None) -> bool:
        """Whether it can go into this container, while its stream has that sound."""
        if isinstance(item, Heard):
            return True  # of another session: left out, until a picture of it comes
        return item.size == self.size and self._taken(sound) is self._sound

    def write(self, item: Encoded | Heard) -> None:
        """Write a packet; may block for as long as the container's target does.

        Raises:
            av.FFmpegError, OSError: the target is gone.
        """
        if isinstance(item, Encoded):
            due, self._held = (self._held, item) if self._lasting else (item, None)
            if due is not None:
                self._picture(due, item.pts - due.pts)
        elif item.format is self._sound:
            self._hear(item)

    def _taken(self, sound: MediaFormat | None) -> MediaFormat | None:
        return sound if sound is not None and sound.audio_codec in self._codecs else None

    def finish(self) -> None:
        """Write what was held back. Raises as :meth:`write` does."""
        if self._held is not None:
            self._picture(self._held, _LAST)
            self._held = None

    def _picture(self, item: Encoded, lasts: float) -> None:
        copy = _copy(item.packet, item.key)
        copy.time_base, copy.stream = _BASE, self._video
        copy.pts = copy.dts = round((item.pts - self._start) * TICKS)
        copy.duration = round(lasts * TICKS)
        self._out.mux_one(copy)

    def _hear(self, item: Heard) -> None:
        packet = item.packet
        at = round(Fraction(item.pts - self._start) / packet.time_base)
        if at < 0 or (self._heard is not None and at <= self._heard):
            return  # before the first picture, or of a sender whose clock has jumped
        self._heard = at
        copy = _copy(packet.data, packet.keyframe)
        copy.time_base, copy.stream, copy.duration = packet.time_base, self._audio, packet.duration
        copy.pts = copy.dts = at
        self._out.mux_one(copy)


def _copy(packet: av.Packet[Any], key: bool) -> av.Packet[Any]:
    """The same bytes; the muxer would change the times of the original."""
    copy = av.Packet(bytes(packet))
    copy.is_keyframe = key
    return copy
