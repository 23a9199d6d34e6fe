"""What a crash left open: segments are closed from the last of their events that was kept."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Final

from streamguard.delivery.events import Event
from streamguard.frames import State

REASON: Final = "restart"
JUMP: Final = 1_000_000
"""How far the sequence jumps: while the disk was full, events may have gone out that were never kept, and their
numbers must not be used again."""


def segment_of(event: Event) -> str | None:
    """The segment that an event tells of, None for other events."""
    return event["data"]["segment_id"] if event["type"].startswith("streamguard.segment.") else None


def closes(event: Event) -> bool:
    """Whether a segment ends with this event."""
    return bool(event["type"] == "streamguard.segment.closed.v1")


def closed_by_restart(last: Event) -> Event:
    """``streamguard.segment.closed.v1`` for a segment whose last kept event is ``last``.

    It is ``inconclusive`` with the reason ``restart`` and ends when that event was made. From the same event comes
    the same closing, so that a second crash does not make a second one.
    """
    event = copy.deepcopy(last)
    data = event["data"]
    name, _, sequence = str(last["id"]).rpartition("/")
    after = datetime.fromisoformat(last["time"]) - datetime.fromisoformat(data["started_at"])
    event["id"] = f"{name}/{int(sequence) + JUMP}"
    event["type"] = "streamguard.segment.closed.v1"
    data["ended_at"] = last["time"]
    data["pts"]["end"] = round(data["pts"]["start"] + after.total_seconds(), 3)
    data["state"], data["reason"] = State.INCONCLUSIVE.value, REASON
    return event
