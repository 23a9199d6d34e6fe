"""Mailbox, step by step, and the lock round it."""

import threading

import numpy as np
import pytest

from streamguard.frames import Frame, Picture
from streamguard.ingest.connection import StreamInfo
from streamguard.ingest.mailbox import Crossing, Mailbox, SessionEnded, SessionStarted, Waiting

PICTURE = Picture(np.zeros((2, 2), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
INFO = StreamInfo(width=2, height=2, fps=25.0, codec="h264", duration=None, audio=False)


def frame(index, session=1):
    return Frame("cam", session, index, index / 25, 0.0, "file", PICTURE)


def offer(box, index, *, due=True):
    return box.offer(Waiting(frame(index), 0.0, due))


def drain(box):
    seen = []
    while (item := box.take()) is not None:
        seen.append(item.frame.index if isinstance(item, Waiting) else type(item).__name__)
    return seen


def test_live_keeps_the_newest():
    box = Mailbox(1, "newest")
    assert offer(box, 0) is None
    dropped = offer(box, 1)
    assert dropped is not None
    assert dropped.frame.index == 0
    assert len(box) == 1
    assert drain(box) == [1]
    assert box.take() is None


def test_a_file_has_room_up_to_its_bound_and_keeps_order():
    box = Mailbox(2, "wait")
    assert offer(box, 0) is None
    assert box.has_room()
    assert offer(box, 1) is None
    assert not box.has_room()
    assert drain(box) == [0, 1]
    assert box.has_room()


def test_marks_are_never_dropped_and_keep_their_place():
    box = Mailbox(1, "newest")
    box.mark(SessionStarted(1, INFO))
    offer(box, 0)
    box.mark(SessionEnded(1, "lost"))
    box.mark(SessionStarted(2, INFO))
    dropped = offer(box, 1)
    assert dropped is not None
    assert dropped.frame.index == 0
    assert drain(box) == ["SessionStarted", "SessionEnded", "SessionStarted", 1]


def test_marks_do_not_count_against_the_bound():
    box = Mailbox(1, "wait")
    box.mark(SessionStarted(1, INFO))
    assert len(box) == 0
    assert box.has_room()


def test_a_frame_carries_how_many_it_overtook():
    box = Mailbox(1, "newest")
    for index in range(4):
        offer(box, index)
    taken = box.take()
    assert (taken.frame.index, taken.overtook) == (3, 3)
    offer(box, 4)
    assert box.take().overtook == 0


def test_what_was_lost_before_a_frame_came_counts_too():
    crossing = Crossing(Mailbox(1, "newest"), notify=lambda: None)
    crossing.put(frame(0), overtook=2)
    assert crossing.put(frame(1), overtook=3).overtook == 2
    assert crossing.take().overtook == 6


def test_a_frame_that_is_not_due_pushes_nothing_out_and_goes_first():
    box = Mailbox(1, "newest")
    offer(box, 0)
    assert offer(box, 1, due=False) is None
    assert drain(box) == [0]
    offer(box, 2, due=False)
    assert offer(box, 3) is None, "nothing due was lost"
    taken = box.take()
    assert (taken.frame.index, taken.overtook) == (3, 0)
    longer = Mailbox(3, "newest")
    for index, due in ((0, True), (1, False), (2, True), (3, True)):
        assert offer(longer, index, due=due) is None
    assert drain(longer) == [0, 2, 3]


def test_a_taker_may_leave_a_due_frame_where_it_is():
    box = Mailbox(3, "wait")
    box.mark(SessionStarted(1, INFO))
    offer(box, 0, due=False)
    offer(box, 1)
    offer(box, 2, due=False)
    assert isinstance(box.take(due=False), SessionStarted)
    assert box.take(due=False).frame.index == 0
    assert box.take(due=False) is None
    assert drain(box) == [1, 2]


def test_a_putter_waits_for_room_and_goes_on():
    woken = threading.Semaphore(0)
    crossing = Crossing(Mailbox(1, "wait"), woken.release)
    assert crossing.put(frame(0)) is None
    putter = threading.Thread(target=crossing.put, args=(frame(1),))
    putter.start()
    assert woken.acquire(timeout=5)
    assert not woken.acquire(timeout=0.1), "the second frame came through a full mailbox"
    first = crossing.take()
    assert isinstance(first, Waiting)
    assert first.frame.index == 0
    putter.join(5)
    assert not putter.is_alive()
    second = crossing.take()
    assert isinstance(second, Waiting)
    assert second.frame.index == 1


def test_closing_frees_a_waiting_putter_with_its_frame():
    crossing = Crossing(Mailbox(1, "wait"), lambda: None)
    crossing.put(frame(0))
    returned = []
    putter = threading.Thread(target=lambda: returned.append(crossing.put(frame(1))))
    putter.start()
    crossing.close()
    putter.join(5)
    assert [waiting.frame.index for waiting in returned] == [1]
    late = crossing.put(frame(2))
    assert late is not None
    assert late.frame.index == 2


@pytest.mark.parametrize("policy", ["newest", "wait"])
def test_the_taker_is_told_of_every_item(policy):
    told = []
    crossing = Crossing(Mailbox(4, policy), lambda: told.append(1))
    crossing.mark(SessionStarted(1, INFO))
    crossing.put(frame(0))
    crossing.mark(SessionEnded(1, "end", final=True))
    assert len(told) == 3


def test_the_crossing_says_what_it_is_and_uses_its_clock():
    crossing = Crossing(Mailbox(2, "newest"), lambda: None, clock=lambda: 7.0)
    assert crossing.live
    assert not Crossing(Mailbox(2, "wait"), lambda: None).live
    crossing.put(frame(0), due=False)
    assert crossing.frames == 1
    waiting = crossing.take()
    assert (waiting.since, waiting.due) == (7.0, False)
