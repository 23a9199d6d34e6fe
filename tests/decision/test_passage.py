"""Levels and passages of the statistic."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.decision.passage import Tally, crossing, low_level


@pytest.mark.parametrize(
    ("threshold", "low"), [(3.0, 1.5), (1.0, 0.5), (0.5, 0.25), (0.4, 0.15), (0.0, -0.25), (-2.0, -2.25)]
)
def test_the_low_level(threshold, low):
    assert low_level(threshold) == pytest.approx(low)


@settings(deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10))
def test_the_low_level_lies_under_the_threshold_and_rises_with_it(one, other):
    assert low_level(one) <= one - 0.25
    assert (low_level(one) <= low_level(other)) == (one <= other) or one == pytest.approx(other)


def test_crossing_is_interpolated_both_ways():
    assert crossing(1.0, (10.0, 0.0), (12.0, 4.0)) == pytest.approx(10.5)
    assert crossing(1.0, (10.0, 4.0), (12.0, 0.0)) == pytest.approx(11.5)


def test_without_a_crossing_it_is_the_later_time():
    assert crossing(1.0, None, (12.0, 4.0)) == 12.0
    assert crossing(1.0, (10.0, 2.0), (12.0, 4.0)) == 12.0
    assert crossing(1.0, (10.0, 0.0), (12.0, 0.5)) == 12.0


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 100), st.floats(0.001, 10))
def test_a_crossing_lies_between_the_scores(level, before, after, pts, step):
    assert pts - 1e-9 <= crossing(level, (pts, before), (pts + step, after)) <= pts + step + 1e-9


def test_tally():
    tally, other = Tally(), Tally()
    for value in (1.0, 3.0):
        tally.add(value)
    other.add(-1.0)
    tally.merge(other)
    assert (tally.frames, tally.total, tally.peak) == (3, 3.0, 3.0)
    tally.merge(Tally())
    assert (tally.frames, tally.total, tally.peak) == (3, 3.0, 3.0)
