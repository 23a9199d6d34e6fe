"""The tape: the last seconds of one session's compressed video and sound, for clips without re-encoding."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

import av

from streamguard.ingest.packet_ring import PacketRing
from streamguard.media import MediaFormat, MediaPacket

_MARGIN = 1.0  # seconds of sound in front of the oldest picture: a muxer may bring it that much earlier


class Tape:
    """Keeps packets as they are demuxed; a :class:`~streamguard.media.Recording`.

    One thread keeps, another takes passages. Video lies in whole groups of pictures (:class:`PacketRing`); sound goes
    as far back as they do. Timestamps that run backwards (a sender that started again) and packets without one end
    what was kept: a clip never runs across them.
    """

    def __init__(self, form: MediaFormat, seconds: float, size: int) -> None:
        """``seconds`` and ``size`` (bytes) bound the pictures; the sound that goes with them is small beside them."""
        self.format = form
        self._ring: PacketRing[MediaPacket] = PacketRing(seconds, size)
        self._sound: deque[MediaPacket] = deque()
        self._seconds = seconds
        self._pictures = 0
        self._sounds = 0
        self._dts: int | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of the pictures kept."""
        return self._ring.held_bytes

    def keep_video(self, packet: av.Packet[Any]) -> None:
        """Keep the next packet of the video, in decoding order."""
        self._pictures += 1
        pts, base = packet.pts, packet.time_base
        if pts is None or base is None:
            self._ring.clear()
            return
        dts = packet.dts if packet.dts is not None else pts
        if self._dts is not None and dts <= self._dts:
            if dts < self._dts:
                self._ring.clear()
            else:  # two packets of one time: a muxer wants them apart
                dts += 1
        self._dts = dts
        kept = _kept(packet, base, self._pictures, pts, dts, video=True)
        self._ring.append(kept, kept.seconds, keyframe=packet.is_keyframe, size=packet.size)

    def keep_audio(self, packet: av.Packet[Any]) -> None:
        """Keep the next packet of the sound."""
        self._sounds += 1
        pts, base = packet.pts, packet.time_base
        if pts is None or base is None or not packet.size:
            return
        kept = _kept(packet, base, self._sounds, pts, pts if packet.dts is None else packet.dts, video=False)
        self._sound.append(kept)
        span = self._ring.span
        oldest = kept.seconds - self._seconds if span is None else span[0]
        while self._sound and self._sound[0].seconds < oldest - _MARGIN:
            self._sound.popleft()

    def passage(self, start: float) -> list[MediaPacket]:
        """See :meth:`~streamguard.media.Recording.passage`."""
        pictures = self._ring.since(start)
        if not pictures:
            return []
        first = pictures[0].seconds
        return [*pictures, *(packet for packet in list(self._sound) if packet.seconds >= first)]


def _kept(packet: av.Packet[Any], base: Fraction, number: int, pts: int, dts: int, *, video: bool) -> MediaPacket:
    return MediaPacket(video, number, pts, dts, packet.duration or 0, base, packet.is_keyframe, packet)
