"""A source that shows made pictures over and over, slowly: many streams for little work, on a real Guard."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from streamguard.frames import U8, Frame, Picture
from streamguard.ingest.connection import StreamInfo
from streamguard.media import Recording
from streamguard.pixels import picture_of_rgb


class Looped:
    """``pictures``, (H, W, 3) uint8 RGB of one even size, ``fps`` of them a second until it is closed."""

    live = False
    recorded = False

    def __init__(self, name: str, pictures: Sequence[U8], fps: float = 2.0) -> None:
        self.name = name
        self.uri = f"made:{name}"
        self._pictures = [picture_of_rgb(picture) for picture in pictures]
        self._fps = fps

    def keep(self, seconds: float) -> None:
        """There are no packets to keep."""

    def listen(self) -> None:
        """There is no sound."""

    def open(self, session: int) -> Showing:
        return Showing(self.name, session, self._pictures, self._fps)


class Showing:
    """One showing; it ends when its reader does not come any more."""

    received_bytes = 0
    skipped_frames = 0
    clock_offset: float | None = None
    recording: Recording | None = None
    finished = True

    def __init__(self, stream: str, session: int, pictures: Sequence[Picture], fps: float) -> None:
        height, width = pictures[0].y.shape
        self.info = StreamInfo(width, height, fps, "made", None, audio=False)
        self._of = stream, session
        self._pictures = pictures
        self._fps = fps

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def __iter__(self) -> Iterator[Frame]:
        began = time.monotonic()
        for index in itertools.count():
            pts = index / self._fps
            time.sleep(max(0.0, began + pts - time.monotonic()))
            picture = self._pictures[index % len(self._pictures)]
            yield Frame(*self._of, index, pts, time.time(), "arrival", picture)
