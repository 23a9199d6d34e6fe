"""What the owner of the inference stage hears of its streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamguard.analysis import StreamAnalysis, TrackChange
from streamguard.frames import Frame, Look, StreamSnapshot
from streamguard.ingest.mailbox import Mark, SessionEnded


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What the stage tells its owner of a stream: a mark or a track's change."""

    stream: str
    what: Mark | TrackChange


class StageListener:
    """What the owner of a stage hears, always in the inference thread. Override what you need."""

    def event(self, event: StreamEvent) -> None:
        """A mark or a track's change, in the order of the stream."""

    def analysed(self, frame: Frame) -> None:
        """All faces of a frame are judged."""

    def looked(self, frame: Frame, looks: Sequence[Look]) -> None:
        """What the classifier saw in a frame and said of it; comes before what that changes. Never without a face."""

    def standing(self, snapshot: StreamSnapshot) -> None:
        """How a stream stands, after each analysed frame and each mark."""

    def ended(self, analysis: StreamAnalysis, ended: SessionEnded) -> None:
        """The stream gives no more frames; its analysis holds the outcomes."""

    def engines(self) -> None:
        """A model runs on another backend, or in another precision, from now on."""

    def over(self) -> None:
        """The thread ends: it was stopped, or it failed, with its traceback on standard error."""
