"""The clip: compressed packets in a file as the tape has them, nothing encoded again here.

MP4 where it takes the codecs, since browsers and C2PA know it; QuickTime for cameras' MJPEG and G.711, which C2PA knows
too; Matroska for the rest. Sound that none of them takes is left out, and said to be.
Timestamps are shifted to begin at zero and otherwise kept; Matroska rounds them to milliseconds. So a picture is not
looked for by arithmetic: the finished file is read once more, and the n-th packet written is the n-th packet in it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av

from streamguard.errors import EvidenceError
from streamguard.media import MediaFormat, MediaPacket


class Container(NamedTuple):
    """What takes which codecs: FFmpeg's name and MIME type; ``video`` None: any."""

    name: str
    suffix: str
    form: str
    video: frozenset[str] | None
    audio: frozenset[str]

    @property
    def file(self) -> str:
        """The clip's name in its folder."""
        return f"clip{self.suffix}"

    @property
    def signable(self) -> bool:
        """Whether content credentials have a place in it."""
        return self.name != "matroska"


_PCM: Final = frozenset({"pcm_alaw", "pcm_mulaw", "pcm_s16le", "pcm_s16be"})
_COMMON: Final = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
CONTAINERS: Final = (
    Container(
        "mp4",
        ".mp4",
        "video/mp4",
        frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"}),
        _COMMON | {"opus", "flac"},
    ),
    Container("mov", ".mov", "video/quicktime", frozenset({"h264", "hevc", "mpeg4", "mjpeg"}), _COMMON | _PCM),
    Container("matroska", ".mkv", "video/matroska", None, _COMMON | {"opus", "flac", "vorbis", "mp2", "pcm_s16le"}),
)
"""In the order in which they are tried."""

# Bytes of an MP4's index, which stands in front so that a browser need not seek.
_INDEXED: Final = 64  # of a packet, at most
_INDEX: Final = 16384  # of everything else


@dataclass(frozen=True, slots=True)
class Clip:
    """What was written: ``ticks`` maps the source's timestamps to the file's, in units of ``time_base``.

    Pictures that do not decode, those in front of a recovery point, are not in it. ``left_out``: the codec of a sound
    that the container does not take. ``reencoded``: its pictures are not the sender's own packets.
    """

    file: str
    container: str
    video: str
    audio: str | None
    left_out: str | None
    reencoded: bool
    time_base: Fraction
    ticks: Mapping[int, int]

    def document(self) -> dict[str, Any]:
        """As ``scores.json`` has it."""
        return {
            "file": self.file,
            "container": self.container,
            "video": self.video,
            "audio": self.audio,
            "left_out": self.left_out,
            "reencoded": self.reencoded,
            "time_base": [self.time_base.numerator, self.time_base.denominator],
            "frames": len(self.ticks),
        }


def container_of(media: MediaFormat) -> Container:
    """The first container that takes picture and sound; if none does, the first for the picture alone."""
    fit = [one for one in CONTAINERS if one.video is None or media.video_codec in one.video]
    return next((one for one in fit if media.audio_codec is None or media.audio_codec in one.audio), fit[0])


def passage(packets: Sequence[MediaPacket], end: float) -> list[MediaPacket]:
    """What a clip up to ``end`` needs of ``packets``, which begin with a keyframe.

    ``end`` in seconds of the container's own clock.
    Pictures that are decoded after the first keyframe and shown before it (open groups) would lack what they are
    predicted from: they are left out. The clip ends where no picture is missing between two others.
    """
    pictures = [packet for packet in packets if packet.video]
    if not pictures:
        return []
    first = shown = pictures[0].seconds
    kept: list[MediaPacket] = []
    for packet in pictures:
        if packet.seconds < first:
            continue
        if kept and packet.seconds > shown >= end:
            break
        shown = max(shown, packet.seconds)
        kept.append(packet)
    last = shown + float(kept[-1].duration * kept[-1].time_base)
    return kept + [packet for packet in packets if not packet.video and first <= packet.seconds <= last]


def write_clip(media: MediaFormat, packets: Sequence[MediaPacket]) -> bytes:
    """``packets`` (of :func:`passage`) as a file. In memory: a full disk is then found by one writer, in one place.

    Raises:
        EvidenceError: the muxer does not take them.
    """
    start = next(packet for packet in packets if packet.video)
    origin = start.pts * start.time_base
    container = container_of(media)
    options = {"moov_size": str(_INDEX + _INDEXED * len(packets))} if container.name != "matroska" else {}
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=container.name, options=options) as out:
            video = out.add_stream_from_template(media.video, opaque=True)
            audio = None
            if media.audio is not None and media.audio_codec in container.audio:
                audio = out.add_stream_from_template(media.audio, opaque=True)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                target = video if packet.video else audio
                if target is not None:
                    out.mux_one(_shifted(packet, origin, target))
    except (av.FFmpegError, ValueError) as error:
        raise EvidenceError(
            f"{media.video_codec} can't be muxed into {container.name}: {type(error).__name__}."
        ) from error
    return file.getvalue()


def _shifted(packet: MediaPacket, origin: Fraction, target: Any) -> av.Packet[Any]:
    shift = round(origin / packet.time_base)
    copy = av.Packet(bytes(packet.data))
    copy.time_base = packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts - shift, packet.dts - shift, packet.duration
    copy.is_keyframe = packet.keyframe
    copy.stream = target
    return copy


def read_clip(content: bytes, media: MediaFormat, packets: Sequence[MediaPacket]) -> Clip:
    """Find every written picture in the finished file.

    Raises:
        EvidenceError: the file does not hold what was written.
    """
    written = [packet.pts for packet in packets if packet.video]
    try:
        with av.open(io.BytesIO(content), "r") as file:
            video = file.streams.video[0]
            base = video.time_base
            found = [packet for packet in file.demux(video) if packet.size]
            blind = _blind(video, found)
    except av.FFmpegError as error:
        raise EvidenceError(f"the clip can't be read back: {type(error).__name__}.") from error
    if len(found) != len(written) or base is None:
        raise EvidenceError(f"the clip holds {len(found)} pictures; {len(written)} were written.")
    pairs = zip(written, found, strict=True)
    ticks = {pts: packet.pts for pts, packet in pairs if packet.pts is not None and packet.pts not in blind}
    container = container_of(media)
    audio, left_out = media.audio_codec, None
    if audio is not None and audio not in container.audio:
        audio, left_out = None, audio
    return Clip(container.file, container.name, media.video_codec, audio, left_out, media.reencoded, base, ticks)


def _blind(video: av.VideoStream, packets: Sequence[av.Packet[Any]]) -> set[int]:
    """Timestamps of the first group that no picture comes out for: a recovery point needs some pictures to recover."""
    second = next((i for i, packet in enumerate(packets) if i and packet.is_keyframe), len(packets))
    context = video.codec_context
    context.thread_count = 1
    seen: set[int | None] = set()
    for packet in packets[:second]:
        try:
            seen.update(frame.pts for frame in context.decode(packet))
        except av.FFmpegError:
            continue
    seen.update(frame.pts for frame in context.decode(None))
    return {packet.pts for packet in packets[:second] if packet.pts is not None and packet.pts not in seen}
