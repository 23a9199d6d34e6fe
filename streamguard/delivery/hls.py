"""The picture as HLS (RFC 8216): segments of fragmented MP4 in memory, the newest few, made while somebody asks.

FFmpeg's muxer writes playlist and segments; they are kept here and never touch a disk. A channel starts with the first
request and stops when none has come for a while.
"""

from __future__ import annotations

import io
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import av

from streamguard.delivery.broadcast import Broadcast
from streamguard.delivery.muxing import INTERLEAVE, Reel
from streamguard.delivery.viewing import Encoded, Heard, Viewing

log = logging.getLogger(__name__)

PLAYLIST: Final = "index.m3u8"
_SOUND: Final = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
_FOLDER: Final = "memory://shelf/"  # of a protocol that FFmpeg does not know: it renames and deletes nothing there
_SEGMENT: Final = ".m4s"
_WAITING: Final = 150  # pictures
_POLL: Final = 0.5


@dataclass(frozen=True, slots=True)
class HlsSettings:
    """``segment``: seconds of one; ``window``: segments in the playlist; ``spare``: older ones that may still be
    fetched; ``idle``: seconds without a request after which a channel stops."""

    segment: float = 1.0
    window: int = 6
    spare: int = 3
    idle: float = 15.0


class Shelf:
    """Files in memory: the playlist, and the newest segments with the headers they need.

    >>> shelf = Shelf(2)
    >>> for name in ("a-init.mp4", "a-0.m4s", "a-1.m4s", "a-2.m4s"):
    ...     shelf.put(name, b"")
    >>> shelf.names(), shelf.following
    (['a-init.mp4', 'a-1.m4s', 'a-2.m4s'], 3)
    """

    def __init__(self, segments: int) -> None:
        self._segments = segments
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.following = 0  # the number of the next segment

    def put(self, name: str, content: bytes) -> None:
        """Keep a file; the oldest segment beyond the bound goes, and a header when no segment needs it."""
        with self._lock:
            self._files[name] = content
            if name.endswith(_SEGMENT):
                self.following = int(name.partition("-")[2].removesuffix(_SEGMENT)) + 1
            segments = [name for name in self._files if name.endswith(_SEGMENT)]
            for old in segments[: -self._segments]:
                del self._files[old]
            needed = {_run_of(name) for name in segments[-self._segments :]} | {_run_of(name)}
            for header in [name for name in self._files if name.endswith(".mp4") and _run_of(name) not in needed]:
                del self._files[header]

    def get(self, name: str) -> bytes | None:
        """A file, or None."""
        with self._lock:
            return self._files.get(name)

    def names(self) -> list[str]:
        """What is there."""
        with self._lock:
            return list(self._files)

    def open(self, url: str, flags: int, options: object) -> io.BytesIO:
        """For the muxer: a file to write, kept once it is closed."""
        return _Written(self, url.rpartition("/")[2])


def _run_of(name: str) -> str:
    return name.partition("-")[0]


class _Written(io.BytesIO):
    """A file of the shelf while it is written."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        super().__init__()
        self._shelf = shelf
        self._name = name

    def close(self) -> None:
        if not self.closed:
            self._shelf.put(self._name, self.getvalue())
        super().close()


class HlsChannel:
    """One stream's HLS, in a thread of its own."""

    def __init__(
        self, broadcast: Broadcast, settings: HlsSettings | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings or HlsSettings()
        self._broadcast = broadcast
        self._clock = clock
        self._shelf = Shelf(self.settings.window + self.settings.spare)
        self._asked = clock()
        self._again = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"hls-{broadcast.stream}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, soon."""
        self._stopped.set()

    @property
    def running(self) -> bool:
        """Segments are being made; a channel that has stopped is not started again."""
        return self._thread.is_alive()

    def get(self, name: str) -> bytes | None:
        """A file by its name; None if it is not there, or not yet. Whoever asks keeps the channel going."""
        self._asked = self._clock()
        return self._shelf.get(name)

    def names(self) -> list[str]:
        """The files that are there."""
        return self._shelf.names()

    def _run(self) -> None:
        viewing = self._broadcast.subscribe(most=_WAITING, kind="hls", sound=True, keys=self.settings.segment)
        try:
            item: Encoded | Heard | None = None
            while self._goes_on(viewing):
                item = self._film(viewing, item) if isinstance(item, Encoded) and item.key else viewing.take(_POLL)
        except (av.FFmpegError, OSError, ValueError) as error:
            log.error("stream '%s': HLS stopped: %s", self._broadcast.stream, type(error).__name__)
        finally:
            viewing.close()

    def _goes_on(self, viewing: Viewing) -> bool:
        return not (viewing.over or self._stopped.is_set()) and self._clock() - self._asked < self.settings.idle

    def _film(self, viewing: Viewing, first: Encoded) -> Encoded | Heard | None:
        """One container, until something else is needed; returns the picture that did not fit."""
        with self._open() as out:
            reel = Reel(out, first, self._broadcast.sound, _SOUND, lasting=True)
            item: Encoded | Heard | None = first
            while self._goes_on(viewing) and (item is None or reel.fits(item, self._broadcast.sound)):
                if item is not None:
                    reel.write(item)
                item = viewing.take(_POLL)
            reel.finish()
        return item

    def _open(self) -> av.container.OutputContainer:
        settings, run = self.settings, secrets.token_hex(4)  # no name comes twice, whatever a player remembers
        flags = "independent_segments+program_date_time+omit_endlist"
        options = {
            "hls_time": str(settings.segment * 0.9),  # a cut needs a key frame; one that comes a little early will do
            "hls_list_size": str(settings.window),
            "hls_segment_type": "fmp4",
            "hls_segment_filename": f"{run}-%d{_SEGMENT}",
            "hls_fmp4_init_filename": f"{run}-init.mp4",
            "hls_flags": flags + ("+discont_start" if self._again else ""),
            "start_number": str(self._shelf.following),
        }
        self._again = True
        return av.open(_FOLDER + PLAYLIST, "w", format="hls", io_open=self._shelf.open, options=options | INTERLEAVE)
