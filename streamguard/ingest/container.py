"""Files: every video and picture that FFmpeg reads, by way of PyAV.

One thread decodes one stream (streams are the parallelism), and a file is read as far as it goes: what decodes
comes first, then an error says where it stopped.

Pictures are turned upright where the file carries a rotation tag (phones, EXIF); mirroring and non-square
pixels are not undone. Interlaced video is taken as it is.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import av

from streamguard.errors import InputMissing, InputUnreadable, PictureSize
from streamguard.frames import Frame, Picture
from streamguard.ingest.connection import Keeping, SourceOptions, StreamInfo
from streamguard.ingest.decoding import DECODER_OPTIONS, PacketReader, upright, words
from streamguard.ingest.timeline import Damage, StreamTime
from streamguard.pixels import LARGEST, check_size, picture_of

_VIDEO: Final = (
    "3gp avi flv gif h264 h265 hevc m2ts m4v mjpeg mjpg mkv mov mp4 mpeg mpg mts nut ogv ts vob webm wmv y4m"
)
_STILL: Final = "avif bmp heic heif jpeg jpg png tif tiff webp"
MEDIA_SUFFIXES: Final = frozenset(f".{ending}" for ending in f"{_VIDEO} {_STILL}".split())
# Local files only: a playlist handed in as a video must not make this machine open connections.
_FILE_OPTIONS: Final = DECODER_OPTIONS | {"protocol_whitelist": "file,crypto,data"}
# Playlists and lists of files are no containers of their own: one could show what lies elsewhere on this machine.
_CONTAINERS: Final = (
    "mov matroska avi flv mpegts mpeg mpegvideo ogg asf gif h264 hevc m4v mjpeg nut ivf yuv4mpegpipe"
    " jpeg_pipe png_pipe webp_pipe bmp_pipe tiff_pipe"
)
_CONFINED: Final = _FILE_OPTIONS | {"format_whitelist": _CONTAINERS.replace(" ", ",")}
# Formats whose header states the length, rather than FFmpeg guessing it from the size of the file.
_STATES_LENGTH: Final = frozenset({"mov", "matroska", "avi", "flv"})
_SLACK: Final = 0.5  # seconds that a sound file may end before its stated length


class FileSource(Keeping):
    """A file on this machine, a video or a still."""

    live = False

    def __init__(
        self, path: str | os.PathLike[str], *, name: str | None = None, options: SourceOptions | None = None
    ) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
        self.uri = str(self.path)
        self._options = options or SourceOptions()

    def open(self, session: int) -> FileConnection:
        """Open the file and decode its first frame.

        Raises:
            InputMissing: no such file.
            InputUnreadable: empty, not permitted, not media, or no frame of it decodes.
            NoVideo: media without a picture in it.
            PictureSize: a picture that is too small or too large.
        """
        _check_file(self.path)
        try:
            container = av.open(
                f"file:{self.path}",
                options=_CONFINED if self._options.confined else _FILE_OPTIONS,
                metadata_errors="replace",  # titles and names of tracks are whatever somebody wrote
            )
        except av.FFmpegError as error:
            raise InputUnreadable(f"'{self.path}' is no video or picture that can be read: {words(error)}.") from error
        return FileConnection(container, self.uri, stream=self.name, session=session, options=self._options)


class FileConnection(PacketReader):
    """The frames of an opened container that ends.

    Frames carry the clock ``file``: ``captured_at`` is the time the file was opened plus the frame's stream time,
    which says when it was looked at, not when it was recorded.
    """

    clock_offset: float | None = None
    finished = True

    def __init__(
        self,
        container: av.container.InputContainer,
        what: str,
        *,
        stream: str,
        session: int,
        options: SourceOptions,
        rate: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over ``container``: it is closed with the connection, or when this fails.

        ``what`` names it in errors; ``rate`` is its frames a second, where the caller knows better.
        """
        super().__init__(container, what, stream=stream, session=session, options=options)
        self._opened = clock()
        self._fps = rate or self._fps
        start = container.start_time
        self._time = StreamTime(self._fps, None if start is None else start / 1e6)
        self._damage = Damage()
        self._reached = 0.0  # the furthest end of any packet, seconds of stream time
        self._failed: list[float] = []  # stream times at which data did not decode
        self._size = (0, 0)
        self._frames = self._decoded()
        self._pending = self._first()
        self.info = self._describe(self._pending.picture)

    def _first(self) -> Frame:
        try:
            frame = next(self._frames, None)
            if frame is None:
                raise InputUnreadable(f"'{self._what}' is damaged or cut: no frame of it decodes.")
        except BaseException:
            self._container.close()
            raise
        return frame

    def _describe(self, picture: Picture) -> StreamInfo:
        name = self._container.format.name
        still = name == "image2" or name.endswith("_pipe") or self._video.frames == 1
        duration = self._container.duration
        return StreamInfo(
            width=picture.width,
            height=picture.height,
            fps=None if still else self._fps,
            codec=self._video.codec_context.name,
            duration=None if still or duration is None else duration / 1e6,
            audio=bool(self._container.streams.audio),
            still=still,
        )

    def close(self) -> None:
        """Close the file. Frames that were given out stay valid."""
        self._frames.close()
        super().close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames.

        Raises:
            InputUnreadable: the file is cut or damaged; raised after the last frame that decodes.
            PictureSize: the picture changed to a size that is not worked on.
        """
        yield self._pending
        yield from self._frames
        self._check_end()

    def _decoded(self) -> Generator[Frame, None, None]:
        index = 0
        for packet in self._packets():
            for frame in self._decode(packet):
                yield self._frame(frame, index)
                index += 1

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Video packets; those of other streams only tell how far the file goes."""
        ticks: dict[int, float] = {}  # seconds a tick of each stream: fractions are slow, and packets are many
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    tick = ticks.get(packet.stream_index) or float(packet.time_base)
                    ticks[packet.stream_index] = tick
                    end = self._time.of((packet.pts + (packet.duration or 0)) * tick)
                    self._reached = max(self._reached, end)
                if self._keep(packet):
                    yield packet
        except av.FFmpegError:
            self._failed.append(self._reached)

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return list(packet.decode())
        except av.ArgumentError as error:
            if self._video.codec_context.width:
                raise InputUnreadable(f"'{self._what}' can't be decoded: {words(error)}.") from error
            raise PictureSize(
                f"'{self._what}' has more than {LARGEST}x{LARGEST} pixels, the most that are worked on. Resize it."
            ) from error
        except av.FFmpegError:
            self._failed.append(self._time.last or 0.0)
            self._damage.lost()
            return []

    def _frame(self, frame: av.VideoFrame, index: int) -> Frame:
        if (frame.width, frame.height) != self._size:
            check_size(frame.width, frame.height, self._what)
            self._size = (frame.width, frame.height)
        pts = self._time.at(frame.time)
        damaged = self._damage.judge(pts, corrupt=frame.is_corrupt, keyframe=frame.key_frame)
        picture = upright(picture_of(frame), frame.rotation)
        return Frame(self._stream, self._session, index, pts, self._opened + pts, "file", picture, damaged, frame.pts)

    def _check_end(self) -> None:
        stated = self._stated_length()
        if stated is not None and self._reached < stated - max(_SLACK, 0.02 * stated):
            raise InputUnreadable(
                f"'{self._what}' is cut: it stops at {self._reached:.2f} s of {stated:.2f} s. What it holds was read."
            )
        if self._failed:
            raise InputUnreadable(
                f"'{self._what}' is damaged: {len(self._failed)} of its packets did not decode, the first at"
                f" {self._failed[0]:.2f} s. The others were read."
            )

    def _stated_length(self) -> float | None:
        name = self._container.format.name.split(",")[0]
        if self.info.still or name not in _STATES_LENGTH:
            return None
        if name == "avi":  # its length is set right by FFmpeg when the file is shorter, its count of frames is not
            return self._video.frames / self._fps if self._video.frames and self._fps else None
        return self.info.duration


def media_files(path: str | os.PathLike[str]) -> list[Path]:
    """The file itself, or all media below a folder by the ending of their names, sorted; hidden ones are left out.

    Raises:
        InputMissing: no such path, or a folder without media.
        InputUnreadable: a folder that may not be listed.
    """
    top = Path(path)
    if not top.is_dir():
        if not top.exists():
            raise InputMissing(f"'{path}' does not exist. Check the path.")
        return [top]

    def refuse(error: OSError) -> None:
        raise InputUnreadable(f"folder '{error.filename}' can't be listed: {error.strerror}.") from error

    found: list[Path] = []
    for folder, folders, files in os.walk(top, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        names = (f for f in files if not f.startswith(".") and Path(f).suffix.lower() in MEDIA_SUFFIXES)
        found += [Path(folder, name) for name in sorted(names)]
    if not found:
        raise InputMissing(f"folder '{path}' holds no video or picture (.mp4, .mkv, .jpg, .png ...).")
    return found


def _check_file(path: Path) -> None:
    """Name what the operating system knows to be wrong, in plainer words than a demuxer has."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputUnreadable(f"'{path}' is a folder, not a file. `streamguard scan` takes folders.")
        if not stat.S_ISREG(status.st_mode):
            raise InputUnreadable(f"'{path}' is not a regular file.")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise InputMissing(f"'{path}' does not exist. Check the path.") from error
    except OSError as error:
        raise InputUnreadable(f"'{path}' can't be opened: {error.strerror}.") from error
    if status.st_size == 0:
        raise InputUnreadable(f"'{path}' is empty (0 bytes).")
