"""What every PyAV connection does alike: choose the video, decode it in one thread, keep packets, close."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np

from streamguard.errors import InputUnreadable, NoVideo
from streamguard.frames import U8, Picture
from streamguard.ingest.connection import Hear, SourceOptions
from streamguard.ingest.tape import Tape
from streamguard.ingest.timeline import StreamTime
from streamguard.media import MediaFormat, MediaPacket
from streamguard.pixels import LARGEST, check_size

# Both the probe and the decoder obey it: a picture of 16,000 x 16,000 would take 770 MB before its size is known.
DECODER_OPTIONS: Final = {"max_pixels": str(LARGEST * LARGEST)}


class PacketReader:
    """An opened container with its video stream; the part that files and live streams share."""

    _time: StreamTime

    def __init__(
        self, container: av.container.InputContainer, what: str, *, stream: str, session: int, options: SourceOptions
    ) -> None:
        """Take over ``container``: it is closed with this, or when this fails. ``what`` names it in errors."""
        self._container = container
        self._what = what
        self._stream = stream
        self._session = session
        self.recording: Tape | None = None
        self.sound: MediaFormat | None = None
        self._hear: Hear | None = None
        self._sounds = 0
        self.received_bytes = 0
        self.skipped_frames = 0
        try:
            self._video = video_stream(container, what)
            rate = self._video.average_rate or self._video.guessed_rate
            self._fps = float(rate) if rate else None
            self._audio = sound_stream(container)
            if options.keep_seconds > 0:
                self.recording = Tape(MediaFormat(self._video, self._audio), options.keep_seconds, options.keep_bytes)
            if options.sound and self._audio is not None:
                self.sound = _described(self._video, self._audio)
        except BaseException:
            container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the container, in the thread that reads it. Frames that were given out stay valid."""
        self._container.close()

    def hear(self, hear: Hear) -> None:
        """See :meth:`~streamguard.ingest.connection.Audible.hear`."""
        self._hear = hear

    def _keep(self, packet: av.Packet[Any]) -> bool:
        """Count and keep a packet of any stream. Whether it is of the video."""
        # Not packet.stream_index: of the empty packets at the end, one a stream, that is 0 for all.
        index = packet.stream.index
        if index != self._video.index:
            if self._audio is not None and packet.size and index == self._audio.index:
                if self.recording is not None:
                    self.recording.keep_audio(packet)
                self._pass_on(packet)
            return False
        self.received_bytes += packet.size
        if self.recording is not None and packet.size:  # the last one is empty: it only drains the decoder
            self.recording.keep_video(packet)
        return True

    def _pass_on(self, packet: av.Packet[Any]) -> None:
        """Hand a packet of sound to whoever hears it."""
        pts, base = packet.pts, packet.time_base
        if self._hear is None or self.sound is None or pts is None or base is None or not packet.size:
            return
        self._sounds += 1
        dts = pts if packet.dts is None else packet.dts
        heard = MediaPacket(False, self._sounds, pts, dts, packet.duration or 0, base, packet.is_keyframe, packet)
        self._hear(heard, self._time.of(heard.seconds))


def video_stream(container: av.container.InputContainer, what: str) -> av.VideoStream:
    """The first video stream, set up to decode in this thread alone.

    Raises:
        NoVideo: none, or only the cover picture of an audio file.
        InputUnreadable: a codec that this build does not decode.
        PictureSize: a picture that is too small or too large, as far as the header tells.
    """
    pictured = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not pictured:
        raise NoVideo(f"'{what}' holds no video. Give one with a picture in it.")
    video = pictured[0]
    context = video.codec_context
    if context is None:
        raise InputUnreadable(f"'{what}' holds video in a codec that is not decoded here. Convert it to H.264.")
    if context.width and context.height:
        check_size(context.width, context.height, what)
    context.thread_count = 1
    context.thread_type = "NONE"  # frame threads would delay a live picture by a frame each
    context.options = dict(DECODER_OPTIONS)
    return video


def sound_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first sound stream that a muxer could take, or None."""
    for audio in container.streams.audio:
        if audio.codec_context is not None and audio.codec_context.sample_rate:
            return audio
    return None


def _described(video: av.VideoStream, audio: av.AudioStream) -> MediaFormat | None:
    """What a muxer must know of the sound; None where FFmpeg can't put it into words: then it is not passed on."""
    try:
        return MediaFormat(video, audio)
    except (av.FFmpegError, ValueError):
        return None


def upright(picture: Picture, degrees: int) -> Picture:
    """The picture turned counter-clockwise by a multiple of 90 degrees, as FFmpeg states a display matrix."""
    turns = round(degrees / 90) % 4
    if not turns:
        return picture
    y, u, v = (_turned(plane, turns) for plane in (picture.y, picture.u, picture.v))
    return Picture(y, u, v, picture.matrix, picture.full_range)


def _turned(plane: U8, turns: int) -> U8:
    turned = np.ascontiguousarray(np.rot90(plane, turns))
    turned.flags.writeable = False
    return turned


def words(error: Exception) -> str:
    """What FFmpeg says, without the URL that its own text carries."""
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()
