"""Who goes to a model together, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.vision.batcher import Batcher


def filled(*items, wait=0.0, now=0.0):
    line = Batcher(wait)
    for stream, item in items:
        line.put(stream, item, now)
    return line


def test_an_empty_line_gives_nothing():
    line = Batcher()
    assert line.take(5.0, 8) == []
    assert line.due is None
    assert len(line) == 0


def test_alone_on_a_cpu_nobody_waits_for_company():
    line = filled(("a", 1), ("b", 2), wait=0.04)
    assert line.take(0.0, 1) == [1]
    assert line.take(0.0, 1) == [2]


def test_a_full_batch_leaves_at_once():
    line = filled(("a", 1), ("b", 2), ("c", 3), wait=0.04)
    assert line.take(0.0, 2) == [1, 2]
    assert line.take(0.0, 2) == []
    assert len(line) == 1


def test_an_incomplete_batch_leaves_when_its_oldest_has_waited():
    line = filled(("a", 1), wait=0.04, now=1.0)
    line.put("b", 2, 1.03)
    assert line.due == pytest.approx(1.04)
    assert line.take(1.039, 8) == []
    assert line.take(1.04, 8) == [1, 2]
    assert line.due is None


def test_a_batch_is_full_when_nobody_else_can_come():
    line = filled(("a", 1), ("b", 2), wait=0.04)
    assert line.take(0.0, 8, enough=3) == []
    assert line.take(0.0, 8, enough=2) == [1, 2]
    assert line.take(0.0, 8, enough=0) == []


def test_without_a_wait_whatever_is_there_leaves():
    assert filled(("a", 1), ("b", 2)).take(0.0, 8) == [1, 2]


def test_a_stream_with_many_items_holds_nobody():
    """Faces of a crowd and the one face of another stream."""
    line = filled(*(("crowd", index) for index in range(20)), ("one", "face"), ("two", "face"))
    assert line.take(0.0, 4) == [0, "face", "face", 1]
    assert line.take(0.0, 4) == [2, 3, 4, 5]


def test_whoever_was_served_goes_to_the_end():
    line = filled(*((stream, f"{stream}{turn}") for turn in range(2) for stream in "abc"))
    assert [line.take(0.0, 2) for _ in range(3)] == [["a0", "b0"], ["c0", "a1"], ["b1", "c1"]]


def test_a_stream_that_goes_takes_its_items_along():
    line = filled(("a", 1), ("b", 2), ("a", 3))
    line.drop("a")
    line.drop("never there")
    assert len(line) == 1
    assert line.take(0.0, 8) == [2]


def test_the_oldest_counts_though_it_is_not_the_next():
    line = filled(("a", 1), ("a", 2), wait=0.1, now=0.0)
    line.put("b", 3, 0.05)
    assert line.take(0.1, 1) == [1]
    assert line.take(0.1, 2) == [3, 2], "b is the next, but a2 has waited for as long as it may"


@given(
    puts=st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 0.05)), max_size=60),
    most=st.integers(1, 8),
)
def test_everything_leaves_once_in_the_order_of_its_stream(puts, most):
    line, now = Batcher(0.02), 0.0
    for index, (stream, step) in enumerate(puts):
        now += step
        line.put(stream, (stream, index), now)
    taken = []
    while len(line):
        batch = line.take(now + 0.02, most)
        assert 1 <= len(batch) <= most
        taken += batch
    assert sorted(index for _, index in taken) == list(range(len(puts)))
    for stream in "abcd":
        own = [index for name, index in taken if name == stream]
        assert own == sorted(own)
