"""Run a feed beside a test and wait for what it tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

from streamguard.ingest.live import FeedSettings, LiveFeed
from streamguard.ingest.reconnect import BackoffSettings
from streamguard.ingest.watchdog import WatchdogSettings
from tests.media import read_stamp

QUICK = FeedSettings(WatchdogSettings(stalled=1.5), BackoffSettings(first=0.2, longest=1.0, denied=0.5))


class Watching:
    """A listener that keeps everything but the pictures."""

    def __init__(self):
        self.told = []
        self.words = []
        self.frames = []  # (session, stamp or None, frame without its picture being read later)
        self.connection = None
        self._news = threading.Condition()

    def opened(self, session, connection):
        self.connection = connection
        self._say(("opened", session))

    def frame(self, frame):
        with self._news:
            self.frames.append((frame.session, read_stamp(frame.picture), frame))
            self._news.notify_all()

    def degraded(self, session, frozen):
        self._say(("frozen", session, frozen))

    def closed(self, session, reason, words):
        self.words.append(words)
        self._say(("closed", session, reason))

    def retrying(self, reason, words, delay):
        self.words.append(words)
        self._say(("retry", reason))

    def _say(self, what):
        with self._news:
            self.told.append(what)
            self._news.notify_all()

    def until(self, condition: Callable[[], bool], limit: float = 30.0) -> None:
        """Wait for something to be so."""
        with self._news:
            assert self._news.wait_for(condition, limit), f"not within {limit} s; told {self.told}"

    def until_told(self, *what, limit: float = 30.0) -> None:
        """Wait for a tuple among what was told."""
        self.until(lambda: what in self.told, limit)

    def until_frames(self, count: int, session: int | None = None) -> None:
        """Wait for that many more frames, of that session if it is given."""
        seen = sum(session in (None, f[0]) for f in self.frames)
        self.until(lambda: sum(session in (None, f[0]) for f in self.frames) >= seen + count)

    def stamps(self, session: int) -> list[int | None]:
        """The numbers that the frames of a session carry."""
        return [stamp for of, stamp, _ in self.frames if of == session]


@contextmanager
def watching(source, settings=QUICK):
    """A feed that runs as long as the block lasts; its listener."""
    listener = Watching()
    feed = LiveFeed(source, settings=settings)
    thread = threading.Thread(target=feed.run, args=(listener,), name=f"feed-{source.name}")
    thread.start()
    try:
        yield listener
    finally:
        feed.stop()
        thread.join(10)
        assert not thread.is_alive()


def readers_gone(limit: float = 20.0) -> bool:
    """Whether all connection threads end, those left behind too."""
    due = time.monotonic() + limit
    while any(t.name.startswith("reader-") for t in threading.enumerate()):
        if time.monotonic() > due:
            return False
        time.sleep(0.05)
    return True
