"""An exhibit: all that speaks for one segment, gathered and ready to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from streamguard.delivery.clip import Clip
from streamguard.delivery.events import Timeline
from streamguard.frames import U8, Box, Picture, Segment, sigmoid
from streamguard.media import MediaFormat, MediaPacket

SCORES_FORMAT: Final = "streamguard.scores.v1"
_SILENT: Final = 1.0  # seconds without a score that count as a gap


class Scored(NamedTuple):
    """One score, with what it takes to repeat it.

    ``pts`` in seconds of stream time, ``ticks`` as the container has it; ``digest`` is the SHA-256 of the classifier's
    input, (S, S, 3) uint8 RGB, in hex.
    """

    pts: float
    ticks: int | None
    box: Box
    logit: float
    digest: str


class Gap(NamedTuple):
    """A passage of stream time without a score of the track, and why."""

    start: float
    end: float
    reason: str


class Still(NamedTuple):
    """The picture with the highest score, and the crop that got it, (S, S, 3) uint8 RGB."""

    pts: float
    picture: Picture
    crop: U8


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """What was gathered.

    ``name`` is the segment's name in events. ``scores`` lie in the passage of the clip, ``earlier`` are (pts, logit) of
    the same track before it: the statistic remembers them. ``cut`` says why the clip ends before the segment's time is
    up, or why there is none. ``facts`` are what all exhibits of a run share.
    """

    name: str
    segment: Segment
    timeline: Timeline
    media: MediaFormat | None
    packets: Sequence[MediaPacket]
    scores: Sequence[Scored]
    earlier: Sequence[tuple[float, float]] = ()
    outages: Sequence[Gap] = ()
    still: Still | None = None
    cut: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes it takes on the disk."""
        return sum(packet.data.size for packet in self.packets) + 2**20

    def document(self, clip: Clip | None) -> dict[str, Any]:
        """``scores.json``: everything that `streamguard replay` needs, and who reads it after years."""
        segment = self.segment
        return {
            "format": SCORES_FORMAT,
            "segment": {
                "id": self.name,
                "stream": segment.stream,
                "session": segment.session,
                "track": segment.track,
                "pts": {"start": segment.started, "end": segment.ended},
                "started_at": self.timeline.at(segment.started),
                "ended_at": None if segment.ended is None else self.timeline.at(segment.ended),
                "clock": self.timeline.clock,
                "state": segment.state.value,
                "reason": segment.reason,
                "logit": {"mean": segment.mean, "peak": segment.peak},
                "frames": segment.frames,
            },
            **self.facts,
            "still": None if self.still is None else {"pts": self.still.pts},
            "clip": None if clip is None else clip.document(),
            "cut": self.cut,
            "earlier": [list(score) for score in self.earlier],
            "scores": [_score(score, clip) for score in self.scores],
            "gaps": [gap._asdict() for gap in self.gaps()],
        }

    def verdict(self) -> dict[str, Any]:
        """What credentials say of it, in short."""
        segment = self.segment
        return {
            "segment": self.name,
            "stream": segment.stream,
            "state": segment.state.value,
            "started_at": self.timeline.at(segment.started),
            "clock": self.timeline.clock,
            "peak": round(sigmoid(segment.peak), 6),
            "engines": self.facts.get("engines", []),
        }

    def gaps(self) -> list[Gap]:
        """Where the track was not scored for over a second, between the first score and the last."""
        found = []
        for before, after in pairwise(self.scores):
            if after.pts - before.pts > _SILENT:
                why = [gap.reason for gap in self.outages if gap.start < after.pts and gap.end > before.pts]
                found.append(Gap(before.pts, after.pts, why[0] if why else "not scored"))
        return found


def _score(score: Scored, clip: Clip | None) -> dict[str, Any]:
    ticks = None if clip is None or score.ticks is None else clip.ticks.get(score.ticks)
    return {
        "pts": score.pts,
        "clip_pts": ticks,
        "box": [float(side) for side in score.box],
        "logit": score.logit,
        "input": score.digest,
    }
