"""Single pictures for previews: drawn in their own size, so that words stay readable; made once for all who wait."""

from __future__ import annotations

import asyncio
import contextlib

import cv2
import numpy as np

from streamguard.delivery import overlay
from streamguard.delivery.overlay import Canvas, Shown
from streamguard.frames import U8, Picture, StreamSnapshot
from streamguard.pixels import rgb_of, shrink


class Still:
    """One JPEG that some wait for, each in an event loop."""

    def __init__(self, height: int, quality: int) -> None:
        self._height = height
        self._quality = quality
        self._waiting: list[asyncio.Future[bytes]] = []

    def add(self, waiting: asyncio.Future[bytes]) -> None:
        """One more waits."""
        self._waiting.append(waiting)

    def without(self, waiting: asyncio.Future[bytes]) -> bool:
        """Whether others wait than that one, who does no more."""
        self._waiting = [other for other in self._waiting if other is not waiting]
        return bool(self._waiting)

    def make(self, picture: Picture, shown: Shown, standing: StreamSnapshot | None) -> None:
        """Draw and encode it, and hand it over."""
        jpeg = jpeg_of(picture, shown, standing, self._height, self._quality)
        for waiting in self._waiting:
            _settle(waiting, jpeg)

    def give_up(self) -> None:
        """There will be none."""
        for waiting in self._waiting:
            _settle(waiting, None)


class Stills:
    """The JPEGs that are waited for, one a size. Used under the broadcast's lock."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[int, int], Still] = {}

    @property
    def wanted(self) -> bool:
        """Somebody waits."""
        return bool(self._wanted)

    def want(self, height: int, quality: int, waiting: asyncio.Future[bytes]) -> None:
        """One more waits for the next picture, at most ``height`` pixels high, JPEG quality 1 to 100."""
        self._wanted.setdefault((height, quality), Still(height, quality)).add(waiting)

    def forget(self, waiting: asyncio.Future[bytes]) -> None:
        """Somebody does not wait any more."""
        for size, still in list(self._wanted.items()):
            if not still.without(waiting):
                del self._wanted[size]

    def taken(self) -> list[Still]:
        """All that are to be made now; those who ask from now on get the next picture."""
        wanted, self._wanted = list(self._wanted.values()), {}
        return wanted

    def give_up(self) -> None:
        """There will be none."""
        for still in self.taken():
            still.give_up()


def jpeg_of(picture: Picture, shown: Shown, standing: StreamSnapshot | None, height: int, quality: int) -> bytes:
    """A picture in its own proportions and at most ``height`` pixels high, drawn on, as JPEG."""
    scale = min(1.0, height / picture.height)
    half = max(8, round(picture.width * scale / 2)), max(8, round(picture.height * scale / 2))
    y = shrink(picture.y, 2 * half[0], 2 * half[1])
    u, v = (shrink(plane, *half) for plane in (picture.u, picture.v))
    canvas = Canvas(_own(y, picture.y), _own(u, picture.u), _own(v, picture.v), picture.matrix, picture.full_range)
    sized = Shown(shown.session, shown.pts, shown.still, canvas.width / picture.width)
    overlay.draw(canvas, sized, standing)
    rgb = rgb_of(Picture(canvas.y, canvas.u, canvas.v, picture.matrix, picture.full_range))
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()


def _own(plane: U8, source: U8) -> U8:
    """A plane in memory of its own: the resampler hands the source back where nothing is to be done."""
    return plane.copy() if np.may_share_memory(plane, source) else plane


def _settle(waiting: asyncio.Future[bytes], jpeg: bytes | None) -> None:
    def settle() -> None:
        if waiting.done():
            return
        if jpeg is None:
            waiting.set_exception(StopAsyncIteration())
        else:
            waiting.set_result(jpeg)

    with contextlib.suppress(RuntimeError):  # its loop has ended, and nobody waits any more
        waiting.get_loop().call_soon_threadsafe(settle)
