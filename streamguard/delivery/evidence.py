"""The keeper of evidence: for each segment a folder with clip, still, crop, scores and manifest.

What to gather is decided in the inference thread (:mod:`~streamguard.delivery.gathering`); writing, signing and
deleting happen in the keeper's own, behind one bounded queue. Neither ever delays an event: when the disk is full or
broken, evidence stops, is counted by reason, and goes on when there is room again.
"""

from __future__ import annotations

import errno
import logging
import math
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from streamguard.delivery.clip import Clip, container_of, read_clip, write_clip
from streamguard.delivery.credentials import Signer, SignSettings
from streamguard.delivery.dossier import Dossier, delete, document_bytes, dossiers, folder_of, size_of, sweep
from streamguard.delivery.events import Event, SegmentKind, Timeline, rfc3339
from streamguard.delivery.exhibit import Exhibit
from streamguard.delivery.gathering import Collector, Span
from streamguard.delivery.retention import Kept, Retention, Room
from streamguard.errors import EvidenceError, UsageError
from streamguard.frames import U8, Frame, Look, Segment
from streamguard.media import Recording
from streamguard.metrics import Metrics
from streamguard.pixels import rgb_of

log = logging.getLogger(__name__)

BOUND: Final = 8
"""Exhibits that may wait to be written; beyond that a further one is given up. They hold some MB each."""

_TIDY: Final = 10.0  # seconds from one look at ages and at the disk to the next
_GOODBYE: Final = 30.0  # seconds that a stopped keeper has for what waits
_DAY: Final = 86400.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

Facts = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """What is kept of each segment, and for how long. Nothing without a ``folder``.

    ``pre``, ``post``: seconds of clip before and after a segment; ``longest``: of the segment at most. ``max_age_days``
    and ``max_bytes`` bound what is kept, the oldest goes first; ``reserve_bytes`` of the disk are left to others.
    """

    folder: str | None = None
    pre: float = 5.0
    post: float = 3.0
    longest: float = 60.0
    max_age_days: float = 30.0
    max_bytes: int = 10 * 2**30
    reserve_bytes: int = 256 * 2**20
    sign: SignSettings | None = None

    def __post_init__(self) -> None:
        if self.folder == "":
            raise ValueError("folder is empty; expected the name of a folder")
        for name, least, most in (("pre", 0.0, 60.0), ("post", 0.0, 60.0), ("longest", 1.0, 600.0)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least:g} to {most:g} seconds")
        if not 0 < self.max_age_days < math.inf:
            raise ValueError(f"max_age_days is {self.max_age_days}; expected more than 0 days")
        for name in ("max_bytes", "reserve_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more bytes")

    @property
    def span(self) -> Span:
        """How much of a stream goes into a clip."""
        return Span(self.pre, self.post, self.longest)


class Clocks(NamedTuple):
    """Unix time, and a steady clock, in seconds."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class EvidenceKeeper:
    """Keeps evidence below one folder, which no other process writes to.

    Its methods are the inference thread's, but for :meth:`start` and :meth:`stop`; none of them waits.
    """

    def __init__(
        self,
        settings: EvidenceSettings,
        facts: Facts,
        metrics: Metrics,
        clocks: Clocks | None = None,
        bound: int = BOUND,
    ) -> None:
        """Look through the folder, which is made if it is not there.

        Raises:
            UsageError: it can't be written to, or the signer's certificate or key can't be used.
        """
        assert settings.folder is not None, "without a folder there is no keeper"
        self._settings = settings
        self._facts = facts
        self._metrics = metrics
        self._collectors: dict[str, Collector] = {}
        self._waiting: queue.Queue[Exhibit | None] = queue.Queue(bound)
        self._writer = _Writer(settings, metrics, clocks or Clocks())
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        try:
            self._waiting.put(None, timeout=_GOODBYE)
        except queue.Full:
            log.error("evidence: the disk does not answer; what waited is lost")
            return
        self._thread.join(_GOODBYE)

    def begin(self, stream: str, recording: Recording | None) -> None:
        """A session of a stream starts; clips come from ``recording``."""
        if stream not in self._collectors:
            self._collectors[stream] = Collector(self._settings.span, self._facts)
        self._collectors[stream].begin(recording)

    def looked(self, frame: Frame, looks: Sequence[Look]) -> None:
        """Faces of a frame were scored. Comes before what changed by it."""
        self._collectors[frame.stream].looked(frame, looks)

    def analysed(self, frame: Frame) -> None:
        """A frame is done with."""
        self._hand_over(self._collectors[frame.stream].advance(frame))

    def segment(
        self, kind: SegmentKind, name: str, segment: Segment, timeline: Timeline, own: Mapping[str, Any] | None = None
    ) -> Event | None:
        """A segment changed. What its event says of evidence: the folder that is going to hold it, or nothing.

        ``own``: facts of this segment alone, at its opening; they go before those of the run.
        """
        collector = self._collectors[segment.stream]
        folder = {"folder": str(folder_of(segment.stream, name))}
        if kind == "opened":
            if (reason := self._writer.paused) is not None:
                self._count(segment.stream, reason)
                return None
            return folder if collector.opened(name, segment, timeline, own) else None
        return folder if collector.changed(name, segment) else None

    def outage(self, stream: str, reason: str | None) -> None:
        """Frames come that can't be judged, for ``reason``; None: they can again."""
        self._hand_over(self._collectors[stream].outage(reason))

    def end(self, stream: str, reason: str, *, final: bool) -> None:
        """A session is over; ``final``: the stream too."""
        collector = self._collectors.get(stream)
        if collector is not None:
            self._hand_over(collector.end(reason))
            if final:
                del self._collectors[stream]

    def _hand_over(self, exhibits: Sequence[Exhibit]) -> None:
        for exhibit in exhibits:
            try:
                self._waiting.put_nowait(exhibit)
            except queue.Full:
                self._count(exhibit.segment.stream, "overflow")
                log.error("evidence '%s' given up: %d wait already", exhibit.name, self._waiting.maxsize)

    def _count(self, stream: str, outcome: str) -> None:
        self._metrics.evidence.labels(stream, outcome).inc()

    def _run(self) -> None:
        self._writer.tidy()
        while True:
            try:
                exhibit = self._waiting.get(timeout=_TIDY)
            except queue.Empty:
                self._writer.tidy()
                continue
            if exhibit is None:
                return
            self._count(exhibit.segment.stream, self._writer.keep(exhibit))


class _Writer:
    """The disk's side: one thread, the keeper's. ``paused`` is why nothing is written at the moment."""

    def __init__(self, settings: EvidenceSettings, metrics: Metrics, clocks: Clocks) -> None:
        self.paused: str | None = None
        self._root = Path(settings.folder or ".")
        self._metrics = metrics
        self._clocks = clocks
        self._signer = None if settings.sign is None else Signer(settings.sign)
        self._retention = Retention(settings.max_age_days * _DAY, settings.max_bytes)
        self._room = Room(settings.reserve_bytes)
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o750)
            left = sweep(self._root)
            self._kept = [Kept(folder, folder.stat().st_mtime, size_of(folder)) for folder in dossiers(self._root)]
        except OSError as error:
            raise UsageError(
                f"evidence folder '{self._root}' can't be used: {error.strerror}. Name another."
            ) from error
        if left:
            log.warning("evidence: %d folders that a crash left unfinished are deleted", left)

    def keep(self, exhibit: Exhibit) -> str:
        """Write one; the outcome, as it is counted."""
        if exhibit.size > self._retention.max_bytes:
            log.error("evidence '%s' has about %d bytes, more than may be kept", exhibit.name, exhibit.size)
            return "too large"
        try:
            self._forget(exhibit.size)
            reason = self._refusal(exhibit.size)
            outcome = self._write(exhibit) if reason is None else reason
        except OSError as error:
            outcome = "disk full" if error.errno in _FULL else "disk error"
            self._room.failed(outcome, self._clocks.steady())
            self._pause(outcome, f"{exhibit.name}: {error.strerror or type(error).__name__}")
        return outcome

    def tidy(self) -> None:
        """Delete what is too old; see whether there is room again."""
        try:
            self._forget()
            self._refusal(0)
        except OSError as error:
            self._pause("disk error", str(error.strerror))

    def _refusal(self, need: int) -> str | None:
        free = shutil.disk_usage(self._root).free
        reason = self._room.refusal(free, need, self._clocks.steady())
        self._pause(reason, f"{free} bytes are free")
        return reason

    def _pause(self, reason: str | None, words: str) -> None:
        if reason != self.paused:
            if reason is not None:
                log.error("evidence stops: %s (%s); events go on", reason, words)
            else:
                log.warning("evidence goes on")
        self.paused = reason
        self._metrics.evidence_paused.set(reason is not None)

    def _forget(self, incoming: int = 0) -> None:
        for gone in self._retention.due(self._kept, self._clocks.wall(), incoming):
            if gone.folder.exists():
                delete(gone.folder)
            self._kept.remove(gone)
        self._metrics.evidence_bytes.set(sum(kept.size for kept in self._kept))

    def _write(self, exhibit: Exhibit) -> str:
        clip, content, outcome = self._clip(exhibit)
        with Dossier(self._root, folder_of(exhibit.segment.stream, exhibit.name)) as dossier:
            if clip is not None:
                dossier.write(clip.file, content)
            if exhibit.still is not None:
                dossier.write("crop.png", _encoded(".png", exhibit.still.crop))
            dossier.write("scores.json", document_bytes(exhibit.document(clip)))
            if exhibit.still is not None:
                still = _encoded(".jpg", rgb_of(exhibit.still.picture))
                dossier.write("still.jpg", self._signed(exhibit, "image/jpeg", still, dossier.digests()))
            now = self._clocks.wall()
            segment = {"id": exhibit.name, "stream": exhibit.segment.stream}
            signed = None if self._signer is None else self._signer.name
            dossier.publish({"segment": segment, "written_at": rfc3339(now), "signed_by": signed})
        self._kept.append(Kept(dossier.folder, now, dossier.size))
        self._metrics.evidence_bytes.set(sum(kept.size for kept in self._kept))
        return outcome

    def _clip(self, exhibit: Exhibit) -> tuple[Clip | None, bytes, str]:
        """The clip, signed if it is to be; no clip does not mean no evidence."""
        if exhibit.media is None or not exhibit.packets:
            return None, b"", "without clip"
        try:
            content = write_clip(exhibit.media, exhibit.packets)
            container = container_of(exhibit.media)
            if container.signable:
                content = self._signed(exhibit, container.form, content, {})
            return read_clip(content, exhibit.media, exhibit.packets), content, "written"
        except EvidenceError as error:
            log.error("evidence '%s' has no clip: %s", exhibit.name, error)
            return None, b"", "without clip"

    def _signed(self, exhibit: Exhibit, form: str, content: bytes, digests: Mapping[str, str]) -> bytes:
        if self._signer is None:
            return content
        title = f"{exhibit.segment.stream} {exhibit.name}"
        return self._signer.sign(form, content, title, exhibit.verdict() | {"files": dict(digests)})


def _encoded(suffix: str, rgb: U8) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    good, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    assert good, "OpenCV encodes 8-bit RGB"
    return np.asarray(data).tobytes()
