"""Events as lines for people.

0:23.4  demo  face 1  flagged since 0:22.1, score 0.91 (threshold 0.50)
0:33.6  demo  face 1  flagged 0:22.1 - 0:31.4 (9.3 s), mean 0.88, peak 0.97 (threshold 0.50)
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from streamguard.delivery.events import Event

STYLES: Final = {"flagged": "bold red", "clear": "green", "inconclusive": "yellow"}

_ENDED: Final = "end of stream"


def event_line(event: Event) -> Text | None:
    """The line of an event; None for one that would only repeat what was said."""
    kind = str(event["type"]).removeprefix("streamguard.").removesuffix(".v1")
    data = event["data"]
    if kind == "segment.updated" or (kind == "track.state" and _told(data)):
        return None
    if kind.startswith("stream."):
        return _stream(kind.partition(".")[2], data)
    line = Text(f"{_moment(kind, event):>8}  {data['stream']}  face {data['track']}  ")
    if kind == "track.state":
        line.append(data["state"], STYLES[data["state"]])
        return line.append(f": {data['reason']}" if data["reason"] else "")
    score, threshold = data["score"], f"(threshold {data['threshold']:.2f})"
    line.append(data["state"], STYLES[data["state"]])
    start, end = data["pts"]["start"], data["pts"]["end"]
    since = _time(data, start, data["started_at"])
    if end is None:
        return line.append(f" since {since}, score {score['peak']:.2f} {threshold}")
    line.append(f" {since} - {_time(data, end, data['ended_at'])} ({end - start:.1f} s), ")
    return line.append(f"mean {score['mean']:.2f}, peak {score['peak']:.2f} {threshold}")


def clock(seconds: float) -> str:
    """Stream time as people read it.

    >>> clock(83.46), clock(3723.0), clock(59.96)
    ('1:23.5', '1:02:03.0', '1:00.0')
    """
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{head}:{tenths // 10:02}.{tenths % 10}"


def _told(data: Event) -> bool:
    """Whether another event of the same moment says it: a segment that opened, a stream that ended."""
    return bool(data["state"] == "flagged" or data["reason"] == _ENDED)


def _moment(kind: str, event: Event) -> str:
    """When it happened."""
    data = event["data"]
    if kind == "track.state":
        return _time(data, data["pts"], event["time"])
    after = datetime.fromisoformat(event["time"]) - datetime.fromisoformat(data["started_at"])
    return _time(data, data["pts"]["start"] + after.total_seconds(), event["time"])


def _time(data: Event, pts: float, wall: str) -> str:
    """A file has its own time; of a live stream people want to know the hour, UTC."""
    return clock(pts) if data["clock"] == "file" else wall[11:19]


def _stream(kind: str, data: Event) -> Text:
    words = {"up": "is up", "down": "has ended", "degraded": "is degraded"}[kind]
    reason = f": {data['reason']}" if data["reason"] else ""
    return Text(f"          {data['stream']}  {words}{reason}", "dim")
