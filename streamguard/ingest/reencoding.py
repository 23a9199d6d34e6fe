"""A tape of pictures that came without their packets: encoded again, for clips alone.

Only streams whose packets the receiving library keeps to itself go this way. The clip is then no copy of what was
sent: its pictures differ by what H.264 loses at this quality.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av
from av.codec.context import Flags
from av.video.frame import PictureType

from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.tape import Tape
from streamguard.media import MediaFormat

RATE: Final = 90_000  # ticks a second (RFC 3551, 5)
_OPTIONS: Final = {"preset": "ultrafast", "tune": "zerolatency", "crf": "18", "threads": "1"}
_EVERY: Final = 30  # pictures from one keyframe to the next: a clip begins with one


class Reencoder:
    """Encodes the pictures of one session, of one size, into a :class:`Tape`. Used by one thread."""

    def __init__(self, like: av.VideoFrame, options: SourceOptions) -> None:
        """``like``: the first picture; colours and size are its own."""
        self._out = av.open("tape", "w", format="null")  # opens no file, and is never written to
        stream = self._out.add_stream("libx264", rate=30, options=_OPTIONS | {"g": str(_EVERY)})
        stream.width, stream.height, stream.pix_fmt = like.width, like.height, "yuv420p"
        self._encoder = stream.codec_context
        self._encoder.time_base = stream.time_base = Fraction(1, RATE)
        self._encoder.colorspace, self._encoder.color_range = like.colorspace, like.color_range
        self._encoder.flags |= Flags.global_header  # MP4 has the parameter sets in its head
        self._out.start_encoding()
        form = MediaFormat(stream, None, reencoded=True)
        self.tape = Tape(form, options.keep_seconds, options.keep_bytes)

    def keep(self, frame: av.VideoFrame) -> None:
        """Keep a picture. Its planes are read; ``frame.pts`` in ticks of :data:`RATE`, rising."""
        frame.time_base = Fraction(1, RATE)
        frame.pict_type = PictureType.NONE  # what kind it was on its way says nothing of what it becomes here
        for packet in self._encoder.encode(frame):
            self.tape.keep_video(packet)

    def close(self) -> None:
        """Free the encoder; the tape stays."""
        self._out.close()
