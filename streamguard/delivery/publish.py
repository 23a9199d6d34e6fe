"""The picture to an RTSP server (ANNOUNCE and RECORD, RFC 2326), and again after every failure.

A server that is dead, slow or frozen delays nothing but itself: a child process speaks with it
(:mod:`streamguard.delivery.push`), fed by a thread with a bounded backlog, and is ended where it is stuck. While the
server is down nothing is encoded for it.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Final, Literal
from urllib.parse import urlsplit

import av

from streamguard.delivery.broadcast import Broadcast
from streamguard.delivery.muxing import INTERLEAVE, Reel
from streamguard.delivery.push import DENIED, READY
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
_POLL: Final = 0.2
_GOODBYE: Final = 2.0  # seconds that a child has to say goodbye once its stream is gone
_CHILD: Final = "import sys; sys.path[:] = {path!r}; from streamguard.delivery.push import push; sys.exit(push())"


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Seconds: ``stuck``, for which a server may take nothing; ``answer``: until it takes the first picture, the start
    of the process included; ``retry``: the waits in between."""

    stuck: float = 5.0
    answer: float = 15.0
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
        gone = self._broadcast.gone
        while not gone.is_set():
            attempt = _Attempt(self._broadcast, self._url, self._established)
            outcome = self._watch(attempt)
            if gone.is_set():
                return
            self._metrics.publish_up.labels(self._broadcast.stream).set(0)
            self._ended(outcome)

    def _watch(self, attempt: _Attempt) -> Outcome:
        """Until the attempt is over, by itself or because it is stuck."""
        attempt.thread.start()
        while not attempt.done.wait(_POLL):
            if self._broadcast.closed:
                attempt.done.wait(_GOODBYE)
                attempt.kill()
                return "ended"
            if attempt.stuck_for() > (self._settings.stuck if attempt.ready else self._settings.answer):
                attempt.kill()
                attempt.done.wait()
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
    """One connection: a child process, and the thread that feeds it."""

    def __init__(self, broadcast: Broadcast, url: str, established: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self._run, name=f"publishing-{broadcast.stream}", daemon=True)
        self.done = threading.Event()
        self.ready = False
        self.outcome: Outcome = "lost"
        self._broadcast = broadcast
        self._url = url
        self._established = established
        self._viewing: Viewing = broadcast.subscribe(most=_WAITING, kind="publish", sound=True, keys=_KEYS)
        self._child: subprocess.Popen[bytes] | None = None
        self._began: float | None = None  # when the child was started, and when it was ready
        self._writing: float | None = None  # since when it is handed a packet

    def stuck_for(self) -> float:
        """Seconds for which the child has taken nothing, or has not been ready."""
        began, writing = self._began, self._writing
        if began is None or (self.ready and writing is None):
            return 0.0
        return time.monotonic() - (max(began, writing) if self.ready and writing is not None else began)

    def kill(self) -> None:
        """End the child, whatever it waits for; the thread ends with it."""
        self._viewing.close()
        if self._child is not None:
            self._child.kill()

    def _run(self) -> None:
        try:
            first = self._first()
            self.outcome = "ended" if first is None else self._publish(first)
        finally:
            self._viewing.close()
            self.done.set()

    def _first(self) -> Encoded | None:
        """The picture to begin with."""
        while not self._viewing.over:
            item = self._viewing.take(_POLL)
            if isinstance(item, Encoded):
                return item
        return None

    def _publish(self, first: Encoded) -> Outcome:
        self._began = time.monotonic()
        command = [sys.executable, "-c", _CHILD.format(path=sys.path)]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=nowhere) as child:
            self._child = child
            threading.Thread(target=self._hear, args=(child,), name="publish-ready", daemon=True).start()
            assert child.stdin is not None
            outcome: Outcome = "lost"
            try:
                child.stdin.write(f"{self._url}\n".encode())
                outcome = self._feed(child.stdin, first)
                child.stdin.close()
            except (av.FFmpegError, OSError, ValueError):  # the child has gone
                log.debug("stream '%s': the process that publishes it has ended", self._broadcast.stream)
            code = child.wait()
        return "denied" if code == DENIED else outcome

    def _hear(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        if child.stdout.readline() == READY:
            self._began = time.monotonic()
            self.ready = True
            self._established()

    def _feed(self, pipe: IO[bytes], first: Encoded) -> Outcome:
        item: Encoded | Heard | None = first
        with av.open(pipe, "w", format="nut", options={"flush_packets": "1"} | INTERLEAVE) as out:
            reel = Reel(out, first, self._broadcast.sound, _SOUND)
            while not self._viewing.over:
                if item is not None and not reel.fits(item, self._broadcast.sound):
                    return "changed"
                if item is not None:
                    self._write(reel, item)
                item = self._viewing.take(_POLL)
        return "ended"

    def _write(self, reel: Reel, item: Encoded | Heard) -> None:
        self._writing = time.monotonic()
        reel.write(item)
        self._writing = None
