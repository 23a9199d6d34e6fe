"""The newest segments, put together from their events: what the API lists."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamguard.delivery.events import Event
from streamguard.frames import State

BOUND: Final = 1000
"""Segments that are kept; the one that opened first goes first."""

_PREFIX: Final = "streamguard.segment."
_CHANGES: Final = frozenset({"opened", "updated", "closed"})

Entry = Mapping[str, Any]


class SegmentStore:
    """Segments by id, in the order in which they opened. Written and read from any thread; entries never change.

    An entry is the ``data`` of the segment's last event, with ``open`` and, once somebody has said one, ``label``.
    """

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Accept any event; those of segments are kept."""
        change = str(event["type"]).removeprefix(_PREFIX).removesuffix(".v1")
        if change not in _CHANGES:
            return
        data = event["data"]
        name = str(data["segment_id"])
        with self._lock:
            before = self._entries.get(name, {})
            self._entries[name] = {**data, "open": change != "closed", "label": before.get("label")}
            if len(self._entries) > self._bound:
                self._entries.popitem(last=False)

    def get(self, name: str) -> Entry | None:
        """A segment, or None."""
        return self._entries.get(name)

    def label(self, name: str, label: Mapping[str, Any]) -> None:
        """What somebody said of a segment; one that is gone is left alone."""
        with self._lock:
            if name in self._entries:
                self._entries[name] = {**self._entries[name], "label": dict(label)}

    def newest(
        self, limit: int, before: str | None = None, stream: str | None = None, state: State | None = None
    ) -> tuple[Sequence[Entry], str | None]:
        """Up to ``limit`` segments, the newest first, and where the next ones begin (None: there are none).

        ``before``: only segments that opened before that one; of one that is not there any more, none did.
        """
        with self._lock:
            entries = list(reversed(self._entries.items()))
        if before is not None:
            names = [name for name, _ in entries]
            entries = entries[names.index(before) + 1 :] if before in names else []
        found = [
            (name, entry)
            for name, entry in entries
            if (stream is None or entry["stream"] == stream) and (state is None or entry["state"] == state)
        ]
        page = found[:limit]
        return [entry for _, entry in page], page[-1][0] if len(found) > limit else None
