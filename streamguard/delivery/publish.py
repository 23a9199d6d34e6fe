"""The picture to an RTSP server (ANNOUNCE and RECORD, RFC 2326), and again after every failure.

A server that is dead, slow or frozen delays nothing but itself: it has a thread of its own and a bounded backlog, and
while it is down nothing is encoded for it. FFmpeg's writes to an RTSP server have no time limit, so each attempt lives
in its own thread; one that is stuck is left behind, and at most two may be.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

import av

from streamguard.delivery.broadcast import Broadcast
from streamguard.delivery.muxing import INTERLEAVE, Reel
from streamguard.delivery.retry import Retry, RetrySettings
from streamguard.delivery.viewing import Encoded, Heard, Viewing
from streamguard.errors import UsageError, redact
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

Outcome = Literal["ended", "changed", "denied", "lost", "stalled"]
"""How an attempt ended: with its stream, with another size or sound, refused for its credentials, by an error (or no
answer), or by a write that did not come back."""

SCHEMES: Final = ("rtsp", "rtsps")
STREAM: Final = "{stream}"
"""What stands for the stream's name in a URL for several."""

# What RTP carries of sound (RFC 3551, 3640, 7587), by FFmpeg's names.
_SOUND: Final = frozenset({"aac", "pcm_alaw", "pcm_mulaw", "opus", "mp3", "mp2", "ac3", "adpcm_g722"})
_KEYS: Final = 2.0  # seconds between key frames: who joins at the server waits for one
_WAITING: Final = 60  # pictures
_MOST_ABANDONED: Final = 2
_POLL: Final = 0.2
_GOODBYE: Final = 2.0  # seconds that an attempt has to say goodbye once its stream is gone


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Seconds: ``stuck``, after which a write that does not come back is given up; ``retry``: the waits in between."""

    stuck: float = 5.0
    retry: RetrySettings = field(default_factory=lambda: RetrySettings(first=1.0, longest=15.0))


def publish_url(url: str, stream: str | None = None) -> str:
    """``url`` with the stream's name in it, if it is one that can be published to.

    Raises:
        UsageError: another scheme, or no host.

    >>> publish_url("rtsp://media:8554/{stream}", "door")
    'rtsp://media:8554/door'
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise UsageError(f"'{url}' can't be published to. Name an RTSP server that records: rtsp://HOST:8554/NAME.")
    return url if stream is None else url.replace(STREAM, stream)


class Publisher:
    """Publishes one broadcast until its stream is gone. ``url`` may hold a password: it is not shown."""

    def __init__(
        self,
        broadcast: Broadcast,
        url: str,
        metrics: Metrics,
        settings: PublishSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._broadcast = broadcast
        self._url = url
        self._metrics = metrics
        self._settings = settings or PublishSettings()
        self._retry = Retry(rng or random.Random(), self._settings.retry)
        self._abandoned: list[_Attempt] = []
        self._told: Outcome | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish-{broadcast.stream}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        """Its stream is not gone."""
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        """Wait for the end, after the broadcast was closed."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while self._may_start():
            attempt = _Attempt(self._broadcast, self._url, self._established)
            outcome = self._watch(attempt)
            if self._broadcast.closed:
                return
            self._metrics.publish_up.labels(self._broadcast.stream).set(0)
            self._ended(outcome)

    def _may_start(self) -> bool:
        """Waits while too many attempts that were left behind still hang."""
        while not self._broadcast.closed:
            self._abandoned = [attempt for attempt in self._abandoned if attempt.thread.is_alive()]
            if len(self._abandoned) < _MOST_ABANDONED:
                return True
            self._broadcast.gone.wait(_POLL)
        return False

    def _watch(self, attempt: _Attempt) -> Outcome:
        attempt.thread.start()
        while not attempt.done.wait(_POLL):
            if self._broadcast.closed:
                attempt.done.wait(_GOODBYE)
                return "ended"
            if attempt.stuck_for() > self._settings.stuck:
                attempt.abandon()
                self._abandoned.append(attempt)
                return "stalled"
        return attempt.outcome

    def _established(self) -> None:
        self._retry.succeeded()
        self._told = None
        self._metrics.publish_up.labels(self._broadcast.stream).set(1)
        log.info("stream '%s' is published to %s", self._broadcast.stream, redact(self._url))

    def _ended(self, outcome: Outcome) -> None:
        stream = self._broadcast.stream
        self._metrics.publish_attempts.labels(stream, outcome).inc()
        delay = 0.0 if outcome == "changed" else self._retry.failed()
        # Once in an outage, which may last for months.
        level = logging.INFO if outcome in (self._told, "changed") else logging.WARNING
        log.log(level, "stream '%s' to %s: %s; again in %.1f s", stream, redact(self._url), _SAID[outcome], delay)
        self._told = outcome
        self._broadcast.gone.wait(delay)


_SAID: Final[dict[Outcome, str]] = {
    "ended": "the stream ended",
    "changed": "the picture or its sound has changed",
    "denied": "the server refused the credentials",
    "lost": "no connection",
    "stalled": "the server takes nothing",
}


class _Attempt:
    """One connection, in its thread."""

    def __init__(self, broadcast: Broadcast, url: str, established: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self._run, name=f"publishing-{broadcast.stream}", daemon=True)
        self.done = threading.Event()
        self.outcome: Outcome = "lost"
        self._broadcast = broadcast
        self._url = url
        self._established = established
        self._viewing: Viewing = broadcast.subscribe(most=_WAITING, kind="publish", sound=True, keys=_KEYS)
        self._busy: float | None = None  # since when FFmpeg is at work
        self._left = False

    def stuck_for(self) -> float:
        """Seconds that the call under way has taken."""
        busy = self._busy
        return 0.0 if busy is None else time.monotonic() - busy

    def abandon(self) -> None:
        """Leave it to itself: it takes no further picture."""
        self._left = True
        self._viewing.close()

    def _run(self) -> None:
        try:
            self.outcome = self._publish()
        except (av.HTTPUnauthorizedError, av.HTTPForbiddenError):
            self.outcome = "denied"
        except (av.FFmpegError, OSError):
            self.outcome = "lost"
        finally:
            self._viewing.close()
            self.done.set()

    def _publish(self) -> Outcome:
        first = self._first()
        if first is None:
            return "ended"
        self._busy = time.monotonic()
        out = av.open(self._url, "w", format="rtsp", options={"rtsp_transport": "tcp"}, container_options=INTERLEAVE)
        try:
            return self._feed(Reel(out, first, self._broadcast.sound, _SOUND), first)
        finally:
            self._busy = time.monotonic()
            out.close()  # says goodbye, if anybody listens
            self._busy = None

    def _first(self) -> Encoded | None:
        """The picture to begin with."""
        while not self._viewing.over:
            item = self._viewing.take(_POLL)
            if isinstance(item, Encoded):
                return item
        return None

    def _feed(self, reel: Reel, first: Encoded) -> Outcome:
        item: Encoded | Heard | None = first
        told = False
        while not self._left:
            if isinstance(item, Encoded) and not reel.fits(item, self._broadcast.sound):
                return "changed"
            if item is not None:
                self._busy = time.monotonic()
                reel.write(item)
                self._busy = None
                if not told and not self._left:
                    self._established()
                    told = True
            elif self._viewing.over:
                return "ended"
            item = self._viewing.take(_POLL)
        return "stalled"
