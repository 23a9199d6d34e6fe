"""Markers: the last event of each open segment, from which a crash closes it (restart.py), as far as the disk has not
got it. The policy, without a disk or a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Markers:
    """What the next commit has to write of open segments: the last event of each, None for one that has ended.

    While the disk takes nothing, markers wait here. A segment that opened and ended meanwhile leaves none: the disk
    never knew of it. What waits is one marker for each segment that is open now, or was at the last commit; never
    more than ``bound``. Where there is no room, a segment that opens is not marked: its events go their way, but a
    crash before it ends would leave it open. ``stored``: the segments that the disk has a marker of.

    >>> markers = Markers(bound=2)
    >>> markers.note("a", "opened"), markers.note("b", "opened"), markers.note("c", "opened")
    (True, True, False)
    >>> markers.note("b", None), markers.hand_over()
    (True, {'a': 'opened'})
    """

    def __init__(self, stored: Iterable[str] = (), bound: int = 10_000) -> None:
        self.bound = bound
        self._stored = set(stored)
        self._waiting: dict[str, str | None] = {}
        self._handed: Mapping[str, str | None] = {}

    def __len__(self) -> int:
        """Markers in memory, those that are being written included."""
        return len(self._waiting) + len(self._handed)

    def note(self, segment: str, body: str | None) -> bool:
        """An event of a segment, as JSON; None if it ended with it. False if there was no room to mark it."""
        known = segment in self._stored or segment in self._handed
        if body is None and not known:
            self._waiting.pop(segment, None)
        elif known or segment in self._waiting or len(self) + len(self._stored) < self.bound:
            self._waiting[segment] = body
        else:
            return False
        return True

    def hand_over(self) -> Mapping[str, str | None]:
        """What a commit is to write; :meth:`written` or :meth:`failed` follows."""
        self._handed, self._waiting = self._waiting, {}
        return self._handed

    def written(self) -> None:
        """The commit is on the disk."""
        self._stored |= {segment for segment, body in self._handed.items() if body is not None}
        self._stored -= {segment for segment, body in self._handed.items() if body is None}
        self._handed = {}

    def failed(self) -> None:
        """The commit is not: what it was to write waits again, as far as nothing newer came."""
        handed, newer = self._handed, self._waiting
        self._handed, self._waiting = {}, {}
        for segment, body in {**handed, **newer}.items():
            if body is not None or segment in self._stored:
                self._waiting[segment] = body
