"""Segments from their events: bounded, in order, never changed under a reader."""

from streamguard.frames import State
from streamguard.server.segments import SegmentStore
from tests.serving import FACTORY, flagged


def test_a_segment_is_what_its_last_event_said():
    store = SegmentStore()
    store.take(flagged(1))
    before = store.get("r1.s1")
    store.take(flagged(1, ended=5.0))
    assert (before["open"], before["ended_at"]) == (True, None)
    assert (store.get("r1.s1")["open"], store.get("r1.s1")["pts"]) == (False, {"start": 1.0, "end": 5.0})


def test_other_events_are_none_of_its_business():
    store = SegmentStore()
    store.take(FACTORY.stream("up", "door", 1, at=0.0))
    assert store.newest(10) == ([], None)


def test_the_oldest_goes_first():
    store = SegmentStore(bound=2)
    for number in (1, 2, 3):
        store.take(flagged(number))
    assert [entry["track"] for entry in store.newest(10)[0]] == [3, 2]
    assert store.newest(10, before="r1.s1") == ([], None)


def test_a_label_stays_with_its_segment():
    store = SegmentStore()
    store.take(flagged(1))
    store.label("r1.s1", {"label": "unsure"})
    store.label("r1.s2", {"label": "unsure"})
    store.take(flagged(1, ended=5.0))
    assert store.get("r1.s1")["label"] == {"label": "unsure"}
    assert store.get("r1.s2") is None


def test_pages_meet_without_a_gap():
    store = SegmentStore()
    for number in range(7):
        store.take(flagged(number, stream="ab"[number % 2]))
    seen, before = [], None
    while True:
        page, before = store.newest(2, before, stream="a", state=State.FLAGGED)
        seen += [entry["track"] for entry in page]
        if before is None:
            break
    assert seen == [6, 4, 2, 0]
