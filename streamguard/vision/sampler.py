"""How often to look: which frames are searched for faces, which tracks are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_EARLY: Final = 0.25  # share of an interval that a score may come before its time


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """``detect_every``: frames from one search to the next. ``classify_hz``: scores a second and track.

    ``highest_hz`` is the highest rate that the operating points were calibrated at (of the engine's manifest):
    more scores a second than that would void their promise, so ``classify_hz`` is lowered to it.
    """

    detect_every: int = 5
    classify_hz: float = 5.0
    highest_hz: float | None = None

    def __post_init__(self) -> None:
        if self.detect_every < 1:
            raise ValueError(f"detect_every is {self.detect_every}; expected 1 or more frames")
        for name in ("classify_hz", "highest_hz"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0 scores a second")

    @property
    def interval(self) -> float:
        """Seconds from one score of a track to the next."""
        return 1 / min(self.classify_hz, self.highest_hz or self.classify_hz)


class Sampler:
    """The schedule of one stream."""

    def __init__(self, settings: SamplerSettings | None = None) -> None:
        self.settings = settings or SamplerSettings()
        self._frames = 0
        self._due: dict[int, float] = {}

    def detect_due(self, pts: float) -> bool:
        """Whether this frame is searched: the first one, then every ``detect_every``-th.

        Called once for each frame that arrives, in order. ``pts`` in seconds of stream time.
        """
        due = self._frames % self.settings.detect_every == 0
        self._frames += 1
        return due

    def classify_due(self, track_id: int, pts: float) -> bool:
        """Whether the track is scored now; a yes books the next time.

        A score may come a quarter of an interval early, so that jitter costs none; the next time counts from the
        *booked* one, so that the mean rate still never exceeds what was set. A track that comes late is not
        made up for. ``pts`` in seconds of stream time.
        """
        interval = self.settings.interval
        due = self._due.get(track_id, pts)
        if pts < due - _EARLY * interval:
            return False
        self._due[track_id] = max(due, pts - _EARLY * interval) + interval
        return True

    def forget(self, track_id: int) -> None:
        """Drop a track that has ended."""
        self._due.pop(track_id, None)
