"""Events as lines for people."""

from __future__ import annotations

import pytest

from streamguard.cli.lines import clock, event_line
from streamguard.delivery.events import EventContext, EventFactory, Timeline, TrackRef
from streamguard.frames import Segment, State

FACTORY = EventFactory(EventContext("node", "r", "default", 0.0, ()))
TIMELINE = Timeline("file", lambda pts: 1_700_000_000 + pts)
TRACK = TrackRef("door", 1, 3)


def segment(ended):
    return Segment("s", "door", 1, 3, 61.25, ended, State.FLAGGED, None, 1.5, 2.5, 31)


def text(event):
    line = event_line(event)
    return None if line is None else line.plain


def test_a_segment_that_opens():
    event = FACTORY.segment("opened", segment(None), 63.0, TIMELINE)
    assert text(event) == "  1:03.0  door  face 3  flagged since 1:01.2, score 0.92 (threshold 0.50)"


def test_a_segment_that_closes():
    event = FACTORY.segment("closed", segment(70.0), 72.0, TIMELINE)
    assert (
        text(event) == "  1:12.0  door  face 3  flagged 1:01.2 - 1:10.0 (8.8 s), mean 0.82, peak 0.92 (threshold 0.50)"
    )


def test_live_streams_tell_the_hour():
    live = Timeline("rtcp", lambda pts: 1_700_000_000 + pts)
    event = FACTORY.segment("closed", segment(70.0), 72.0, live)
    assert text(event).startswith("22:14:32  door  face 3  flagged 22:14:21 - 22:14:30 (8.8 s), mean")
    state = FACTORY.track_state(TRACK, State.CLEAR, 4.0, live, logit=-1.0)
    assert text(state) == "22:13:24  door  face 3  clear"


def test_a_state_with_its_reason():
    event = FACTORY.track_state(TRACK, State.INCONCLUSIVE, 4.0, TIMELINE, reason="too small")
    assert text(event) == "  0:04.0  door  face 3  inconclusive: too small"
    assert text(FACTORY.track_state(TRACK, State.CLEAR, 4.0, TIMELINE, logit=-1.0)) == "  0:04.0  door  face 3  clear"


def test_streams():
    assert text(FACTORY.stream("up", "door", 1, at=0.0)) == "          door  is up"
    event = FACTORY.stream("down", "door", 1, at=0.0, reason="rtsp://a:b@c/ is gone")
    assert text(event) == "          door  has ended: rtsp://***@c/ is gone"


@pytest.mark.parametrize(
    "event",
    [
        FACTORY.segment("updated", segment(None), 64.0, TIMELINE),
        FACTORY.track_state(TRACK, State.FLAGGED, 63.0, TIMELINE, logit=1.0),
        FACTORY.track_state(TRACK, State.INCONCLUSIVE, 63.0, TIMELINE, reason="end of stream"),
    ],
)
def test_what_would_only_repeat_another_line(event):
    assert event_line(event) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.0"), (9.96, "0:10.0"), (59.96, "1:00.0"), (3599.99, "1:00:00.0"), (7325, "2:02:05.0")],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown
