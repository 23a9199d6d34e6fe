"""Live sources by way of FFmpeg: RTSP, HLS and other HTTP, RTMP, MPEG-TS over UDP, and local cameras.

FFmpeg knows only some of the ways in which a stream dies: a peer that is silent, a name that does not resolve. So a
connection here may block for longer than its caller can wait; :mod:`streamguard.ingest.live` gives each one a thread
that it can leave behind. Time limits given to FFmpeg make sure that such a thread ends.

Error texts never contain FFmpeg's own: those quote the URL with its password.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import av

from streamguard.errors import (
    InputMissing,
    InputUnreadable,
    PictureSize,
    SourceDenied,
    SourceLost,
    SourceStalled,
    redact,
)
from streamguard.frames import Frame, Picture
from streamguard.ingest.capture import CaptureClock, Pacer
from streamguard.ingest.connection import Keeping, SourceOptions, StreamInfo
from streamguard.ingest.container import MEDIA_SUFFIXES, FileConnection
from streamguard.ingest.decoding import DECODER_OPTIONS, PacketReader, upright, words
from streamguard.ingest.timeline import Damage, Gaps, StreamTime
from streamguard.ingest.watchdog import CatchUp
from streamguard.pixels import LARGEST, check_size, picture_of

_WALL_CLOCK: Final = struct.Struct("<q")  # AVProducerReferenceTime: microseconds since the Unix epoch come first
_HTTP: Final = "http,https,tcp,tls,crypto,data"  # a playlist must not make this machine read its own files
_ENDLESS: Final = frozenset({".ts", ".mjpeg", ".mjpg", ".flv"})  # what cameras and encoders send for ever
_LOGIN: Final = re.compile(r"^(?P<scheme>[^:/]+://).*@", re.DOTALL)
_UNTIMED: Final = frozenset({"mpjpeg", "mjpeg"})  # JPEGs one after the other: FFmpeg makes timestamps up
_LATE: Final = 1.0  # seconds that packets may stay behind before some are left out
_TICKS: Final = 90_000  # a second, of timestamps made here
_DRAIN: Final = 1.05  # speed at which the segments of HLS are shown: the distance to the live edge shrinks


class PictureChanged(SourceLost):
    """The picture has another size than at the start of the session: tracks and decoder start afresh."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of source is opened.

    ``options``, then ``retry`` where the first try finds no picture size; ``format`` forces a demuxer; ``bursts``:
    pictures come faster than they were taken, and are spread again.
    """

    options: Mapping[str, str]
    retry: Mapping[str, str] | None = None
    format: str | None = None
    bursts: bool = False


def _micros(seconds: float) -> str:
    return str(round(seconds * 1e6))


def kind_of(scheme: str, options: SourceOptions) -> Kind:
    """How sources of that scheme are opened; ``v4l2`` stands for a local camera."""
    timeout = _micros(options.read_timeout)
    network = {"rw_timeout": timeout}
    if scheme in ("rtsp", "rtsps"):
        media = "video+audio" if options.keep_seconds > 0 or options.sound else "video"  # nobody else wants sound
        rtsp = {"rtsp_transport": options.transport, "allowed_media_types": media, "timeout": timeout}
        # With parameter sets in the session description no probe is needed: 0.06 s to open instead of 1.15 s.
        return Kind(rtsp | {"probesize": "32"}, retry=rtsp | {"analyzeduration": _micros(2.0)})
    if scheme in ("http", "https"):
        return Kind(network | _http(options) | {"analyzeduration": _micros(1.0)}, bursts=True)
    if scheme in ("rtmp", "rtmps"):
        return Kind(network | {"rtmp_live": "live", "analyzeduration": _micros(1.0)})
    if scheme == "udp":
        receiving = {"timeout": timeout, "fifo_size": "28672", "overrun_nonfatal": "1", "buffer_size": str(2**20)}
        return Kind(receiving | {"analyzeduration": _micros(1.0)}, format="mpegts")
    return Kind({}, format="v4l2")


class LiveSource(Keeping):
    """A source that never ends by itself."""

    live = True

    def __init__(self, uri: str, *, name: str | None = None, options: SourceOptions | None = None) -> None:
        """``uri``: of a scheme that :func:`kind_of` knows, or the path of a video device."""
        self._uri = uri
        self.uri = public(uri)
        self.name = name or _name(uri)
        self._options = options or SourceOptions()
        self._scheme = "v4l2" if uri.startswith("/") else urlsplit(uri).scheme.lower()

    def open(self, session: int) -> LiveConnection:
        """Connect. Blocks, at worst for longer than ``open_timeout`` (a name that does not resolve).

        Raises:
            SourceDenied: wrong or missing credentials.
            SourceLost: no answer, or not that of a media server.
            InputError: an answer without a video that can be worked on.
        """
        kind = kind_of(self._scheme, self._options)
        container = self._open(kind.options, kind.format)
        if kind.retry is not None and not _has_size(container):
            container.close()
            container = self._open(kind.retry, kind.format)
        return LiveConnection(container, self, session, self._options, bursts=kind.bursts)

    def _open(self, options: Mapping[str, str], form: str | None) -> av.container.InputContainer:
        limits = (self._options.open_timeout, self._options.read_timeout)
        try:
            given = DECODER_OPTIONS | dict(options)
            return av.open(self._uri, "r", format=form, options=given, timeout=limits, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise _loss(error, self.uri) from None


class LiveConnection(PacketReader):
    """One session with a live source. Iterating ends quietly where the sender ends, and raises where it is cut."""

    def __init__(
        self,
        container: av.container.InputContainer,
        source: LiveSource,
        session: int,
        options: SourceOptions,
        *,
        bursts: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(container, source.uri, stream=source.name, session=session, options=options)
        self._wall = wall
        self._time = StreamTime(self._fps)
        self._catch_up = CatchUp(_LATE)
        self._gaps = Gaps()
        self._damage = Damage()
        self._damage.lost()  # whatever comes in front of the first keyframe
        self._clock = CaptureClock(self._fps)
        context = self._video.codec_context
        duration = container.duration / 1e6 if container.duration else None  # RTMP says 0
        self._untimed = container.format.name in _UNTIMED
        self._wanted: tuple[av.VideoStream] | tuple[av.VideoStream, av.AudioStream] = (self._video,)
        if self._audio is not None and (self.recording is not None or self.sound is not None):
            self._wanted = (self._video, self._audio)
        self._pacer = Pacer(_DRAIN if duration is None else 1.0) if bursts and not self._untimed else None
        self.info = StreamInfo(
            context.width, context.height, self._fps, context.name, duration, bool(container.streams.audio)
        )

    @property
    def clock_offset(self) -> float | None:
        """Arrival minus the sender's clock, seconds."""
        return self._clock.offset

    @property
    def finished(self) -> bool:
        """The stream stated a length and has reached it: a recording, not to be opened again."""
        return self.info.duration is not None and (self._time.last or 0.0) >= self.info.duration - 2.0

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            PictureChanged: the picture has another size than before.
            SourceStalled: silence for longer than the read timeout.
            SourceLost: the connection broke.
        """
        index = 0
        for packet in self._packets():
            for decoded in self._decode(packet):
                frame = self._frame(decoded, index)
                if self._pacer is not None:
                    time.sleep(self._pacer.wait(frame.pts, time.monotonic()))
                yield frame
                index += 1

    def _packets(self) -> Iterator[av.Packet[Any]]:
        waited, asked = 0.0, time.monotonic()
        try:
            for packet in self._container.demux(*self._wanted):
                waited += time.monotonic() - asked
                if self._untimed and packet.size:
                    _stamp(packet, time.monotonic())
                if self._keep(packet):
                    self._listen(packet)
                    if packet.is_corrupt:
                        self._damage.lost()
                    if self._in_time(packet, waited):
                        yield packet
                    else:
                        self.skipped_frames += 1
                    waited = 0.0
                asked = time.monotonic()
        except (av.FFmpegError, OSError) as error:
            raise _loss(error, self._what) from None

    def _in_time(self, packet: av.Packet[Any], waited: float) -> bool:
        """Whether it is decoded. What is read in bursts, or has no time of its own, is never late."""
        ticks = packet.pts if packet.dts is None else packet.dts
        if self._pacer is not None or self._untimed or ticks is None or packet.time_base is None:
            return True
        seconds = float(ticks * packet.time_base)
        return self._catch_up.wanted(seconds, time.monotonic(), keyframe=packet.is_keyframe, waited=waited)

    def _listen(self, packet: av.Packet[Any]) -> None:
        if packet.pts is None or packet.time_base is None:
            return
        for data in packet.iter_sidedata():
            if data.data_type == "prft":
                (micros,) = _WALL_CLOCK.unpack_from(bytes(data))
                self._clock.heard(float(packet.pts * packet.time_base), micros / 1e6)

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return list(packet.decode())
        except av.ArgumentError:
            raise PictureSize(f"'{self._what}' sends more than {LARGEST}x{LARGEST} pixels. Ask it for less.") from None
        except av.FFmpegError:
            self._damage.lost()
            return []

    def _frame(self, frame: av.VideoFrame, index: int) -> Frame:
        arrival = self._wall()
        picture = upright(picture_of(frame), frame.rotation)
        if index == 0:
            self._check_first(picture)
        elif (picture.width, picture.height) != (self.info.width, self.info.height):
            raise PictureChanged(
                f"'{self._what}' changed from {self.info.width}x{self.info.height} pixels to"
                f" {picture.width}x{picture.height}."
            )
        pts = self._time.at(frame.time)
        if not self._untimed and self._gaps.missing(pts):
            self._damage.lost()
        damaged = self._damage.judge(pts, corrupt=frame.is_corrupt, keyframe=frame.key_frame)
        taken = self._clock.capture(frame.time, arrival)
        return Frame(self._stream, self._session, index, pts, taken.at, taken.clock, picture, damaged, frame.pts)

    def _check_first(self, picture: Picture) -> None:
        check_size(picture.width, picture.height, self._what)
        self.info = replace(self.info, width=picture.width, height=picture.height)


class RemoteFile(Keeping):
    """A file on a web server: read once, to its end, at the pace of what takes its frames."""

    live = False

    def __init__(self, uri: str, *, name: str | None = None, options: SourceOptions | None = None) -> None:
        self._uri = uri
        self.uri = public(uri)
        self.name = name or PurePosixPath(unquote(urlsplit(uri).path)).name
        self._options = options or SourceOptions()

    def open(self, session: int) -> FileConnection:
        """Open the file and decode its first frame.

        Raises:
            InputMissing: the server has no such file.
            InputError: it can't be reached, refuses, or what it sends can't be read.
        """
        limits = (self._options.open_timeout, self._options.read_timeout)
        try:
            options = DECODER_OPTIONS | _http(self._options)
            container = av.open(self._uri, "r", options=options, timeout=limits, metadata_errors="replace")
        except av.HTTPNotFoundError:
            raise InputMissing(f"'{self.uri}' does not exist (404). Check the address.") from None
        except (av.FFmpegError, OSError) as error:
            raise InputUnreadable(str(_loss(error, self.uri))) from None
        return FileConnection(container, self.uri, stream=self.name, session=session, options=self._options)


def _http(options: SourceOptions) -> dict[str, str]:
    """What HTTP sources may reach: other HTTP, and all of it through the proxy if there is one."""
    if options.proxy is None:
        return {"protocol_whitelist": _HTTP}
    return {"protocol_whitelist": f"{_HTTP},httpproxy", "http_proxy": options.proxy}


def is_remote_file(uri: str) -> bool:
    """Whether an HTTP address names a file that ends, by the ending of its name."""
    return PurePosixPath(urlsplit(uri).path).suffix.lower() in MEDIA_SUFFIXES - _ENDLESS


def public(uri: str) -> str:
    """The URI without what is secret in it: credentials, tokens, and the stream key of RTMP.

    A URI on its own, unlike one in a text, may have spaces in its password.
    """
    hidden = redact(_LOGIN.sub(r"\g<scheme>***@", uri))
    if hidden.lower().startswith("rtmp"):
        head, slash, _key = hidden.rpartition("/")
        return f"{head}{slash}***" if head.count("/") >= 3 else hidden
    return hidden


def _name(uri: str) -> str:
    """What to call a source that was given no name: host and path, or the device."""
    if uri.startswith("/"):
        return PurePosixPath(uri).name
    parts = urlsplit(public(uri))
    return (parts.netloc.rpartition("@")[2] + parts.path).removesuffix("/***").rstrip("/") or parts.scheme


def _has_size(container: av.container.InputContainer) -> bool:
    return any(s.codec_context is not None and s.codec_context.width for s in container.streams.video)


def _stamp(packet: av.Packet[Any], seconds: float) -> None:
    """Give a packet the time at which it came."""
    packet.time_base = Fraction(1, _TICKS)
    packet.pts = packet.dts = round(seconds * _TICKS)


def _loss(error: Exception, what: str) -> SourceLost:
    """What an error means. The text is our own: FFmpeg's quotes the URL with its password."""
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return SourceDenied(f"'{what}' refused the credentials. Check user name and password.")
    if isinstance(error, av.TimeoutError | av.ExitError | TimeoutError):
        return SourceStalled(f"'{what}' did not answer in time.")
    return SourceLost(f"'{what}': {words(error)}.")
