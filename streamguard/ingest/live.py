"""A live source that comes back: connect, watch, give up, wait, connect again.

:class:`LiveFeed` is the thread shell round two policies, :class:`~streamguard.ingest.watchdog.Watchdog` and
:class:`~streamguard.ingest.reconnect.Backoff`. Each connection lives in a thread of its own, because a read in
FFmpeg can block and can't be interrupted safely from outside: a connection that stalls is left behind, and its
thread ends when FFmpeg's own time limit does. What it might still deliver is thrown away.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from streamguard.errors import InputError, SourceDenied, SourceLost, SourceStalled
from streamguard.frames import Frame
from streamguard.ingest.connection import Connection, Source
from streamguard.ingest.network import PictureChanged
from streamguard.ingest.reconnect import Backoff, BackoffSettings, Reason
from streamguard.ingest.watchdog import Verdict, Watchdog, WatchdogSettings

_MOST_ABANDONED: Final = 4  # threads; a further attempt waits for one of them to end
_GOODBYE: Final = 2.0  # seconds that a stopped feed waits for its thread


class FeedListener(Protocol):
    """What a feed tells. All calls for one session come in order, ``frame`` only between ``opened`` and ``closed``.

    ``opened`` and ``frame`` come from the connection's thread, the others from the thread in :meth:`LiveFeed.run`;
    none may block.
    """

    def opened(self, session: int, connection: Connection) -> None:
        """The first frame of a session is there; ``connection.info`` is of its picture."""

    def frame(self, frame: Frame) -> None:
        """A frame, decoded just now."""

    def degraded(self, session: int, frozen: bool) -> None:
        """The pictures have stopped moving, or move again."""

    def closed(self, session: int, reason: Reason, words: str) -> None:
        """No frame of the session follows."""

    def retrying(self, reason: Reason, words: str, delay: float) -> None:
        """An attempt or a session is over, and the next attempt is due in ``delay`` seconds."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """The policies' settings, and how often the watchdog is asked, seconds."""

    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    poll: float = 0.2


@dataclass(frozen=True, slots=True)
class Over:
    """How an attempt ended. ``final``: the source is not to be opened again."""

    reason: Reason
    words: str
    final: bool = False


class LiveFeed:
    """Keeps one live source open. Call :meth:`run` in a thread; :meth:`stop` from another."""

    def __init__(
        self,
        source: Source,
        *,
        settings: FeedSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._source = source
        self._settings = settings or FeedSettings()
        self._backoff = Backoff(rng or random.Random(), self._settings.backoff)
        self._stopped = threading.Event()
        self._abandoned: list[_Attempt] = []

    def stop(self) -> None:
        """End the feed; :meth:`run` returns within a second or two."""
        self._stopped.set()

    def run(self, listener: FeedListener, first: int = 1) -> None:
        """Until :meth:`stop`, or the end of a source that is a recording. Sessions count from ``first``.

        Nothing of ``listener`` is held afterwards: a decoder must not wait for the collector of cycles.
        """
        try:
            self._run(listener, first)
        finally:
            self._abandoned.clear()

    def _run(self, listener: FeedListener, session: int) -> None:
        while self._may_start():
            attempt = _Attempt(self._source, session, listener, self._settings.watchdog)
            over = self._watch(attempt, listener)
            lasted = attempt.abandon()
            if lasted is not None:
                listener.closed(session, over.reason, over.words)
                session += 1
            if over.final:
                attempt.thread.join(_GOODBYE)
                return
            self._abandoned.append(attempt)
            delay = self._backoff.delay(over.reason, lasted or 0.0)
            listener.retrying(over.reason, over.words, delay)
            self._stopped.wait(delay)

    def _may_start(self) -> bool:
        """Waits while too many connections that were left behind still hang."""
        while not self._stopped.is_set():
            self._abandoned = [attempt for attempt in self._abandoned if attempt.thread.is_alive()]
            if len(self._abandoned) < _MOST_ABANDONED:
                return True
            self._stopped.wait(self._settings.poll)
        return False

    def _watch(self, attempt: _Attempt, listener: FeedListener) -> Over:
        frozen = False
        attempt.thread.start()
        while not attempt.done.wait(self._settings.poll):
            if self._stopped.is_set():
                return Over("ended", "stopped", final=True)
            verdict = attempt.verdict()
            if verdict == "stalled":
                return Over("stalled", f"'{self._source.uri}': no frame for {self._settings.watchdog.stalled:g} s")
            if (verdict == "frozen") != frozen:
                frozen = not frozen
                listener.degraded(attempt.session, frozen)
        return attempt.over


class _Attempt:
    """One connection in its thread."""

    def __init__(self, source: Source, session: int, listener: FeedListener, settings: WatchdogSettings) -> None:
        self.thread = threading.Thread(target=self._run, name=f"reader-{source.name}-{session}", daemon=True)
        self.done = threading.Event()
        self.over = Over("lost", f"'{source.uri}': the reader failed")
        self.session = session
        self._source = source
        self._listener = listener
        self._gate = threading.Lock()  # once abandon() has it, nothing more is told
        self._left = False
        self._opened_at: float | None = None
        self._watchdog = Watchdog(time.monotonic(), settings)

    def verdict(self) -> Verdict:
        """The watchdog's."""
        with self._gate:
            return self._watchdog.verdict(time.monotonic())

    def abandon(self) -> float | None:
        """Let nothing more through. Returns the seconds since the first frame, None if there was none."""
        with self._gate:
            self._left = True
            return None if self._opened_at is None else time.monotonic() - self._opened_at

    def _run(self) -> None:
        try:
            self.over = self._read()
        except (SourceLost, InputError) as error:
            self.over = Over(_reason_of(error), str(error).removesuffix("."))
        finally:
            self.done.set()

    def _read(self) -> Over:
        with self._source.open(self.session) as connection:
            for frame in connection:
                if not self._tell(connection, frame):
                    break
            return Over("ended", f"'{self._source.uri}' ended the stream", final=connection.finished)

    def _tell(self, connection: Connection, frame: Frame) -> bool:
        with self._gate:
            if self._left:
                return False
            now = time.monotonic()
            if self._opened_at is None:
                self._opened_at = now
                self._watchdog.opened(now)
                self._listener.opened(self.session, connection)
            self._watchdog.fed(now, frame.picture)
            self._listener.frame(frame)
            return True


def _reason_of(error: SourceLost | InputError) -> Reason:
    if isinstance(error, InputError):
        return "unusable"
    if isinstance(error, SourceDenied):
        return "denied"
    if isinstance(error, SourceStalled):
        return "stalled"
    return "changed" if isinstance(error, PictureChanged) else "lost"
