"""The words of this wing: a source, one connection to it, and what is known of its stream.

A :class:`Source` is where frames come from; it can be opened again and again. A :class:`Connection` is one
session with it: iterate it and frames come, in order, with stream time that starts near zero. A file ends by
``StopIteration``; a live connection that ends, by whatever way, is opened again by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from streamguard.frames import Frame
from streamguard.media import MediaFormat, MediaPacket, Recording


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a stream says of itself.

    ``width`` and ``height`` are of the picture as it is seen, after any rotation tag. ``duration`` in seconds,
    None where nothing states it. ``still``: one picture, not a video.
    """

    width: int
    height: int
    fps: float | None
    codec: str
    duration: float | None
    audio: bool
    still: bool = False


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are opened; every kind takes what concerns it.

    Attributes:
        transport: of RTSP media; ``udp`` saves a little delay and loses packets.
        open_timeout, read_timeout: seconds that a live source may take to answer, and that FFmpeg waits for data.
            The watchdog gives a silent source up earlier; this ends the thread that it leaves behind.
        sound: packets of sound are handed to whom a connection is told of (:class:`Audible`).
        keep_seconds, keep_bytes: compressed video that a connection keeps for clips, with its sound; 0 keeps none.
        proxy: the ``http://`` proxy through which HTTP and HTTPS sources are read.
        confined: of files, only containers are read that can't name other files.
    """

    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout: float = 5.0
    read_timeout: float = 6.0
    sound: bool = False
    keep_seconds: float = 0.0
    keep_bytes: int = 32 * 2**20
    proxy: str | None = None
    confined: bool = False


class Connection(Protocol):
    """One session with a source. Used by one thread; closed on leaving the ``with`` block."""

    @property
    def info(self) -> StreamInfo:
        """What the stream says of itself."""

    @property
    def received_bytes(self) -> int:
        """Compressed video read so far."""

    @property
    def skipped_frames(self) -> int:
        """Frames that came and were not decoded, since the machine was late."""

    @property
    def clock_offset(self) -> float | None:
        """Arrival minus the sender's clock in seconds; None where the sender tells no time."""

    @property
    def recording(self) -> Recording | None:
        """What is kept for clips, if anything is."""

    @property
    def finished(self) -> bool:
        """Once iteration has ended: that was the end of a recording, not of a connection."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            InputError: a file is damaged or cut; raised after the frames that decode.
            SourceLost: a live connection ended.
        """


Hear = Callable[[MediaPacket, float], None]
"""Takes a packet of sound, and the second of stream time at which it is heard."""


@runtime_checkable
class Audible(Protocol):
    """A connection that may have sound to pass on."""

    @property
    def sound(self) -> MediaFormat | None:
        """What a muxer must know of it; None where there is none, or none was asked for."""

    def hear(self, hear: Hear) -> None:
        """From now on, hand every packet of sound over, in the thread that reads the connection."""


class Keeping:
    """What every source does alike: remember its options, and how much to keep."""

    recorded = True
    _options: SourceOptions

    def keep(self, seconds: float) -> None:
        """From the next opening on, keep that much compressed media for clips."""
        self._options = replace(self._options, keep_seconds=seconds)

    def listen(self) -> None:
        """From the next opening on, read the sound as well, to be passed on."""
        self._options = replace(self._options, sound=True)


class Source(Protocol):
    """Where frames come from. ``uri`` is redacted, ``name`` is what labels and events carry."""

    @property
    def name(self) -> str: ...

    @property
    def uri(self) -> str: ...

    @property
    def live(self) -> bool:
        """Whether the source never ends by itself: it is opened again, and its newest frame wins."""

    @property
    def recorded(self) -> bool:
        """Whether evidence may be kept of it."""

    def keep(self, seconds: float) -> None:
        """From the next opening on, keep that much compressed media for clips."""

    def listen(self) -> None:
        """From the next opening on, read the sound as well, to be passed on."""

    def open(self, session: int) -> Connection:
        """Connect; blocks. Frames carry ``session``.

        Raises:
            InputError: a file that can't be read.
            SourceLost: a live source that does not answer, or refuses.
        """
