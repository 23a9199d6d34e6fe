"""Compressed media on its way past the decoder: packets, what a muxer must know of them, and where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av


@dataclass(frozen=True, slots=True, eq=False)
class MediaPacket:
    """One packet of a session's video or sound, as it came.

    ``pts`` and ``dts`` in ticks of ``time_base`` (seconds), ``data`` holds the bytes. ``number`` counts the packets of
    its kind in the session: where it jumps, some are missing.
    """

    video: bool
    number: int
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    keyframe: bool
    data: av.Packet[Any]

    @property
    def seconds(self) -> float:
        """When it is shown or heard, on the container's own clock."""
        return float(self.pts * self.time_base)


class MediaFormat:
    """What a muxer must know of a session's streams: codecs, their parameters, sizes, colours, rotation.

    ``reencoded``: the packets are not the sender's own; its pictures were encoded again on this side. It outlives the
    connection: FFmpeg frees a stream's own description when its container is closed.
    """

    def __init__(self, video: av.VideoStream, audio: av.AudioStream | None, *, reencoded: bool = False) -> None:
        """Copy the description of open streams."""
        self._holder = av.open("description", "w", format="null")  # opens no file, and is never written to
        self.video = self._holder.add_stream_from_template(video, opaque=True)
        self.audio = None if audio is None else self._holder.add_stream_from_template(audio, opaque=True)
        self.reencoded = reencoded
        self.video_codec = video.codec_context.codec.canonical_name
        self.audio_codec = None if audio is None else audio.codec_context.codec.canonical_name


class Recording(Protocol):
    """The last seconds of one session, from which clips are cut. Read by another thread than the one that fills it."""

    @property
    def format(self) -> MediaFormat: ...

    def passage(self, start: float) -> Sequence[MediaPacket]:
        """All packets kept from the keyframe at or before ``start`` on, or from the oldest keyframe.

        ``start`` in seconds of the container's own clock. Pictures come first, in decoding order; then the sound,
        which goes back as far as they do.
        """
