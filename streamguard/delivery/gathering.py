"""Gathering evidence: a pure policy, driven by what the inference thread sees, in stream time.

A segment opens: what the session's recording still holds of the seconds before it is taken at once. From then on new
packets are taken every second, with the track's scores and its best picture, until some seconds after the segment
closed. Packets are shared, not copied: two faces in one picture cost one clip's memory.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamguard.delivery.clip import passage
from streamguard.delivery.events import Timeline
from streamguard.delivery.exhibit import Exhibit, Gap, Scored, Still
from streamguard.frames import Frame, Look, Segment
from streamguard.media import MediaPacket, Recording

REMEMBERED: Final = 120.0
"""Seconds of a track's scores in front of a clip: four time constants of the track's earlier level, after which a
fiftieth is left of what was, and of its statistic nothing."""

LARGEST: Final = 64 * 2**20  # bytes of one clip in memory
_EVERY: Final = 1.0  # seconds from one taking of packets to the next
_LONGEST_BREAK: Final = 30.0  # seconds by which a segment may open after it began; older scores are forgotten


@dataclass(frozen=True, slots=True)
class Span:
    """How much of a stream goes into a clip, seconds: before the segment, after it, and of it at most."""

    pre: float = 5.0
    post: float = 3.0
    longest: float = 60.0

    @property
    def keep(self) -> float:
        """Seconds of compressed media that a session has to hold: what came before, and while decisions were made."""
        return self.pre + 12.0


class Gathering:
    """The evidence of one segment, under way. ``own``: facts of it alone, which go before those of the run."""

    def __init__(
        self, name: str, segment: Segment, timeline: Timeline, span: Span, own: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self._own = own or {}
        self.segment = segment
        self.timeline = timeline
        self.scores: list[Scored] = []
        self.outages: list[Gap] = []
        self._span = span
        self._recording: Recording | None = None
        self._offset = 0.0  # the container's clock minus stream time
        self._packets: list[MediaPacket] = []
        self._numbers = {True: 0, False: 0}  # of the last packet taken: video, sound
        self._size = 0
        self._taken_at = -1.0
        self._still: Still | None = None
        self._best = float("-inf")
        self._cut: str | None = None

    def record(self, recording: Recording | None, frame: Frame) -> None:
        """Take the clip from ``recording``; ``frame`` was analysed just now."""
        base = None if recording is None else recording.format.video.time_base
        if recording is None or frame.ticks is None or base is None:
            self._cut = "no packets" if recording is None else "no timestamps"
            return
        self._recording = recording
        self._offset = float(frame.ticks * base) - frame.pts
        self._take(frame.pts)

    def looked(self, frame: Frame, look: Look, scored: Scored) -> None:
        """The track was scored."""
        self.scores.append(scored)
        self.show(frame, look)

    def show(self, frame: Frame, look: Look) -> None:
        """Keep the picture, if it is the best so far."""
        if look.logit > self._best:
            self._best = look.logit
            self._still = Still(frame.pts, frame.picture.copy(), look.crop.copy())

    def advance(self, pts: float) -> bool:
        """Time passed. Whether all is there."""
        if self._recording is not None and self._cut is None and pts - self._taken_at >= _EVERY:
            self._take(pts)
        if pts >= self._end:
            if self.segment.ended is None:
                self._cut = self._cut or "longest"
            return True
        return self._cut in ("size", "packets lost")

    def finish(self, facts: Mapping[str, Any], cut: str | None = None) -> Exhibit:
        """What there is, as an exhibit; ``cut``: why it ends before its time."""
        if self._recording is not None and self._cut in (None, "longest"):
            self._take(self._end)
        packets = passage(self._packets, self._end + self._offset)
        if not packets and self._cut in (None, "longest"):
            self._cut = "no packets"
        scores, earlier = self._split(packets)
        return Exhibit(
            name=self.name,
            segment=self.segment,
            timeline=self.timeline,
            media=None if self._recording is None else self._recording.format,
            packets=packets,
            scores=scores,
            earlier=earlier,
            outages=tuple(self.outages),
            still=self._still,
            cut=self._cut or cut,
            facts={**facts, **self._own},
        )

    @property
    def _end(self) -> float:
        """Stream time at which it is complete."""
        longest = self.segment.started + self._span.longest
        return longest if self.segment.ended is None else min(self.segment.ended, longest) + self._span.post

    def _take(self, pts: float) -> None:
        assert self._recording is not None
        self._taken_at = pts
        for packet in self._recording.passage(self.segment.started - self._span.pre + self._offset):
            last = self._numbers[packet.video]
            if packet.number <= last:
                continue
            if packet.video and last and packet.number != last + 1:
                self._cut = "packets lost"
                return
            self._numbers[packet.video] = packet.number
            self._packets.append(packet)
            self._size += packet.data.size
            if self._size > LARGEST:
                self._cut = "size"
                return

    def _split(self, packets: Sequence[MediaPacket]) -> tuple[list[Scored], list[tuple[float, float]]]:
        """The scores that the clip covers, and those before it that the statistic still remembers."""
        if not packets:
            return self.scores, []
        shown = {packet.pts for packet in packets if packet.video}
        inside = [index for index, score in enumerate(self.scores) if score.ticks in shown]
        if not inside:
            return [], []
        scores = self.scores[inside[0] : inside[-1] + 1]
        since = scores[0].pts - REMEMBERED
        return scores, [(s.pts, s.logit) for s in self.scores[: inside[0]] if s.pts >= since]


class Collector:
    """The evidence of one stream: what was said of its tracks lately, and what is being gathered.

    ``facts`` gives what all exhibits of a run share, at the moment one is finished.
    """

    def __init__(self, span: Span, facts: Callable[[], Mapping[str, Any]]) -> None:
        self._span = span
        self._facts = facts
        self._recording: Recording | None = None
        self._frame: Frame | None = None
        self._looks: Sequence[Look] = ()  # of the frame at hand alone: its planes are the decoder's
        self._scores: dict[int, deque[Scored]] = {}
        self._under_way: dict[str, Gathering] = {}
        self._open: set[str] = set()  # segments that are open and have evidence, complete or not
        self._outage: tuple[float, str] | None = None
        self._over = False  # the outage, from the next frame on

    def begin(self, recording: Recording | None) -> None:
        """A session starts: what is known of the last one's tracks is of no use."""
        self._recording = recording
        self._frame = None
        self._scores.clear()
        self._outage, self._over = None, False

    def looked(self, frame: Frame, looks: Sequence[Look]) -> None:
        """Faces were scored in a frame. Comes before what changed by it."""
        self._frame = frame
        self._looks = looks = [look for look in looks if math.isfinite(look.logit)]  # others are no scores
        for look in looks:
            digest = hashlib.sha256(look.crop.tobytes()).hexdigest()
            scored = Scored(frame.pts, frame.ticks, look.box, look.logit, digest)
            self._scores.setdefault(look.track, deque()).append(scored)
            for gathering in self._under_way.values():
                if gathering.segment.track == look.track:
                    gathering.looked(frame, look, scored)

    def advance(self, frame: Frame) -> list[Exhibit]:
        """A frame was analysed; what is complete now."""
        self._frame, self._looks = frame, ()
        if self._over:
            self._outage_over(frame.pts)
        oldest = frame.pts - self._span.pre - REMEMBERED - _LONGEST_BREAK
        for track, scores in list(self._scores.items()):
            while scores and scores[0].pts < oldest:
                scores.popleft()
            if not scores:
                del self._scores[track]
        done = [name for name, gathering in self._under_way.items() if gathering.advance(frame.pts)]
        return [self._finish(name) for name in done]

    def opened(self, name: str, segment: Segment, timeline: Timeline, own: Mapping[str, Any] | None = None) -> bool:
        """A segment opened, by the frame that was :meth:`looked` at last. False: no frame was. ``own``: its facts."""
        frame = self._frame
        if frame is None:
            return False
        gathering = Gathering(name, segment, timeline, self._span, own)
        gathering.scores += self._scores.get(segment.track, ())
        for look in self._looks:
            if look.track == segment.track:
                gathering.show(frame, look)
        gathering.record(self._recording, frame)
        self._under_way[name] = gathering
        self._open.add(name)
        return True

    def changed(self, name: str, segment: Segment) -> bool:
        """A segment goes on, or closed. Whether there is evidence of it."""
        gathered = name in self._open
        if name in self._under_way:
            self._under_way[name].segment = segment
        if segment.ended is not None:
            self._open.discard(name)
        return gathered

    def outage(self, reason: str | None) -> list[Exhibit]:
        """Frames come that can't be judged, or can again. What can't grow any more is complete."""
        if reason is None:
            self._over = self._outage is not None  # until the next frame, whose time is not known yet
            return []
        if self._outage is None:
            self._outage = (0.0 if self._frame is None else self._frame.pts, reason)
        self._over = False
        return [self._finish(name, reason) for name, g in list(self._under_way.items()) if g.segment.ended is not None]

    def end(self, reason: str) -> list[Exhibit]:
        """The session is over."""
        self._outage_over(float("inf"))
        exhibits = [self._finish(name, reason) for name in list(self._under_way)]
        self.begin(None)
        return exhibits

    def _outage_over(self, now: float) -> None:
        if self._outage is not None:
            start, reason = self._outage
            for gathering in self._under_way.values():
                gathering.outages.append(Gap(start, now, reason))
            self._outage, self._over = None, False

    def _finish(self, name: str, cut: str | None = None) -> Exhibit:
        return self._under_way.pop(name).finish(self._facts(), cut)
