"""What one stream has in hand, in its order: no device, no thread."""

from types import SimpleNamespace

import numpy as np

from streamguard.frames import Frame, Picture
from streamguard.ingest.mailbox import Crossing, Mailbox, SessionEnded
from streamguard.lane import MOST, Job, Lane

PICTURE = Picture(np.zeros((2, 2), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))


def lane(policy="wait", bound=20):
    return Lane(SimpleNamespace(stream="cam"), Crossing(Mailbox(bound, policy), lambda: None))


def put(to, index, *, due=True):
    to.crossing.put(Frame("cam", 1, index, index / 25, 0.0, "file", PICTURE), due=due)


def held(of):
    return [item.waiting.frame.index if isinstance(item, Job) else type(item).__name__ for item in of.queue]


def searching(of):
    of.searching = Job(of, of.search())
    of.queue.append(of.searching)
    return of.searching


def test_what_comes_before_the_next_search_is_taken_in():
    found = lane()
    put(found, 0, due=False)
    found.crossing.mark(SessionEnded(1, "lost"))
    put(found, 1)
    put(found, 2, due=False)
    assert found.fill()
    assert held(found) == [0, "SessionEnded"]
    assert not found.fill()
    assert found.wants_search


def test_the_frame_under_search_is_waited_for_and_what_is_behind_it_too():
    found = lane()
    put(found, 0)
    job = searching(found)
    put(found, 1, due=False)
    put(found, 2)
    found.fill()
    assert found.turn() is None
    assert not found.wants_search, "one frame at a time is searched"
    job.raw = np.zeros((5, 1), np.float32)
    assert found.turn() is job
    found.searching, job.chosen, job.left = None, True, 2
    assert found.turn() is None, "two faces of it are being scored"
    assert found.wants_search, "meanwhile the next one may be searched"
    job.left = 0
    assert found.turn() is job


def test_a_frame_that_was_pushed_out_is_no_reason_to_search():
    found = lane("newest", 1)
    assert found.search() is None
    assert not found.wants_search


def test_what_comes_before_the_searched_frame_meanwhile_keeps_its_place():
    found = lane("newest", 4)
    found.crossing.mark(SessionEnded(1, "lost"))
    put(found, 0, due=False)
    put(found, 1)
    assert found.search().frame.index == 1
    assert held(found) == ["SessionEnded", 0]


def test_what_is_in_hand_is_bounded():
    found = lane()
    for index in range(MOST + 5):
        put(found, index, due=False)
    assert found.fill()
    assert len(found.queue) == MOST
    put(found, 99)
    assert not found.wants_search
    found.queue.clear()
    assert found.fill()
    assert len(found.queue) == 5
