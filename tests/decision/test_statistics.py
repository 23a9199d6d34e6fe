"""The running evidence of a track."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.decision.statistics import CALMEST, SPREAD, Ewma, Rise


def fed(logits, hz=5.0, **options):
    """An Ewma after scores at a steady rate, with the trajectory."""
    statistic = Ewma(**options)
    return statistic, [statistic.update(index / hz, logit) for index, logit in enumerate(logits)]


def evidence(pts):
    """Real, then forged between 10 and 18 s, with a slow swing over it."""
    return (3.0 if 10 <= pts < 18 else -3.0) + math.sin(pts)


def test_a_constant_is_approached_with_the_time_constant():
    statistic, _ = fed([3.0] * 11, hz=5)
    assert statistic.value == pytest.approx(3 * (1 - math.exp(-2 / 2)))


def test_steady_scores_give_the_textbook_formula():
    """For a constant z the weight of a score is 1 - exp(-dt / tau), whatever the steps."""
    statistic, by_hand, before = Ewma(tau=1.5), 0.0, None
    for pts in (0.0, 0.3, 0.35, 1.2, 2.9, 3.0):
        statistic.update(pts, 2.0)
        if before is not None:
            by_hand += (1 - math.exp(-(pts - before) / 1.5)) * (2.0 - by_hand)
        before = pts
    assert statistic.value == pytest.approx(by_hand)


def test_the_first_score_moves_nothing():
    statistic = Ewma()
    assert statistic.update(7.0, 4.0) == 0
    assert (statistic.coverage, statistic.samples) == (0, 1)


def test_coverage_is_the_time_between_scores():
    statistic, _ = fed([1.0] * 6, hz=5)
    assert statistic.coverage == pytest.approx(1.0)
    assert statistic.samples == 6


@pytest.mark.parametrize("hz", [2, 25])
def test_the_rate_does_not_matter(hz):
    """The same evidence at 2, 5 and 25 scores a second: the same trajectory, within what 0.5 s of a jump can hide."""
    reference = dict(zip(range(30), fed([evidence(i / 5) for i in range(150)], 5)[1][::5], strict=True))
    other = fed([evidence(i / hz) for i in range(30 * hz)], hz)[1]
    for second, value in reference.items():
        assert other[second * hz] == pytest.approx(value, abs=0.75)
    smooth = fed([2 * math.sin(i / hz) for i in range(30 * hz)], hz)[1]
    steady = fed([2 * math.sin(i / 5) for i in range(150)], 5)[1]
    for second in range(30):
        assert smooth[second * hz] == pytest.approx(steady[second * 5], abs=0.03)


def test_extra_scores_on_the_line_between_two_change_nothing():
    """The property that makes it exact for irregular sampling."""
    sparse, dense = Ewma(), Ewma()
    for pts, logit in ((0.0, -1.0), (1.0, 3.0), (1.4, 0.0)):
        sparse.update(pts, logit)
    for pts, logit in ((0.0, -1.0), (0.1, -0.6), (0.7, 1.8), (1.0, 3.0), (1.3, 0.75), (1.4, 0.0)):
        dense.update(pts, logit)
    assert dense.value == pytest.approx(sparse.value)
    assert dense.coverage == pytest.approx(sparse.coverage)


def test_scores_are_clipped():
    assert fed([400.0] * 20)[0].value == pytest.approx(fed([4.0] * 20)[0].value)
    assert fed([-400.0] * 20)[0].value == pytest.approx(fed([-4.0] * 20)[0].value)
    assert fed([400.0] * 20, clip=1.0)[0].value < 1


def test_one_wild_score_has_a_bounded_influence():
    calm, _ = fed([-3.0] * 50)
    wild, trajectory = fed([-3.0] * 40 + [1e9] + [-3.0] * 9)
    assert max(trajectory[1:]) < 0
    assert wild.value - calm.value < 0.5


def test_a_gap_adds_nothing_and_starts_afresh():
    statistic, _ = fed([4.0] * 26, hz=5)
    assert statistic.value > 3
    assert statistic.update(5.0 + 2.01, 4.0) == 0
    assert (statistic.coverage, statistic.samples) == (0, 1)


def test_a_gap_of_just_the_hold_is_bridged():
    statistic, _ = fed([4.0] * 26, hz=5)
    assert statistic.update(7.0, 4.0) > 3
    assert statistic.coverage == pytest.approx(7.0)


def test_it_starts_where_it_is_told():
    statistic = Ewma(start=-1.5)
    assert statistic.value == -1.5
    assert statistic.update(0.0, 4.0) == -1.5
    statistic.update(1.0, 4.0)
    statistic.restart()
    assert (statistic.value, statistic.coverage, statistic.samples) == (-1.5, 0, 0)


@pytest.mark.parametrize("pts", [1.0, 0.5])
def test_a_second_score_at_the_same_time_replaces_the_last(pts):
    statistic = Ewma()
    statistic.update(0.0, -1.0)
    before = statistic.update(1.0, 3.0)
    assert statistic.update(pts, 0.0) == before
    assert (statistic.coverage, statistic.samples) == (1.0, 2)
    assert statistic.update(2.0, 0.0) < before


@pytest.mark.parametrize(("pts", "logit"), [(0.0, math.nan), (0.0, math.inf), (math.nan, 0.0), (math.inf, 0.0)])
def test_what_is_not_finite_is_refused(pts, logit):
    with pytest.raises(ValueError, match="expected finite numbers"):
        Ewma().update(pts, logit)


@pytest.mark.parametrize("step", [1e-3, 2e-6, 1e-9, 5e-324])
def test_scores_that_are_almost_at_the_same_time(step):
    statistic = Ewma()
    statistic.update(0.0, -4.0)
    assert statistic.update(step, 4.0) == pytest.approx(0.0, abs=4 * step)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-50, 50)), min_size=1, max_size=100))
def test_it_stays_within_what_it_has_seen(scores):
    """Between the least and the largest of the clipped scores and the start, whatever the times."""
    statistic, pts = Ewma(), 0.0
    seen = [0.0]
    for step, logit in scores:
        pts += step
        seen.append(min(max(logit, -4), 4))
        assert min(seen) - 1e-6 <= statistic.update(pts, logit) <= max(seen) + 1e-6
        assert 0 <= statistic.coverage <= pts


def risen(pairs, **options):
    rise, level = Rise(**options), Ewma()
    return [rise.update(pts, logit, level.update(pts, logit)) for pts, logit in pairs]


def test_a_rise_needs_an_earlier_level():
    told = risen([(t / 5, -1.0) for t in range(40)])
    known = [told[i] is not None for i in range(40)]
    assert known == [False] * 25 + [True] * 15  # 3 s of level, older than 2 s


def test_a_steady_track_does_not_rise_whatever_its_level():
    for logit in (-4.0, 0.0, 3.0):
        told = [r for r in risen([(t / 5, logit) for t in range(200)]) if r is not None]
        assert max(map(abs, told[25:])) < 0.1


def test_a_rise_is_the_same_at_every_rate():
    def evidence(t):
        return -2.0 if t < 12 else 0.5

    at = {hz: dict(zip(times, risen([(t, evidence(t)) for t in times]), strict=True))
          for hz in (2, 5, 25) for times in [[i / hz for i in range(20 * hz)]]}  # fmt: skip
    for second in (10.0, 14.0, 16.0, 19.0):
        found = [at[hz][second] for hz in at]
        assert max(found) - min(found) < 0.1 * max(found) + 0.1
        assert (min(found) > 1.2) == (second > 12)


def wavering(spread, rise=0.0, seconds=30):
    """Scores that waver about -2 with that standard deviation, and stand ``rise`` higher after ``seconds``."""
    return [
        (i / 5, -2.0 + spread * math.sqrt(2) * math.sin(1.7 * i) + rise * (i >= 5 * seconds))
        for i in range(5 * (seconds + 4))
    ]


def test_a_rise_counts_less_on_a_restless_track():
    still, usual, wild = (risen(wavering(spread, 1.5))[-1] for spread in (0.0, SPREAD, 3 * SPREAD))
    assert 0.8 < usual < 1.5  # the level has some of what was before, what was before some of it, and the scale too
    assert wild == pytest.approx(usual / 3, rel=0.2)
    assert usual < still < 1.5 * SPREAD / CALMEST


def test_what_rose_hardly_widens_the_scale_that_it_is_measured_by():
    rise = Rise()
    for pts, logit in wavering(SPREAD, 3.0):
        rise.update(pts, logit, logit)
    assert SPREAD < rise.spread < 1.3 * SPREAD


def test_a_track_is_taken_for_an_ordinary_one_until_more_is_known():
    rise, early = Rise(), 0.0
    assert rise.spread == pytest.approx(SPREAD)
    for pts, logit in wavering(2 * SPREAD):
        rise.update(pts, logit, logit)
        if pts == 5.0:
            early = rise.spread
    assert SPREAD < early < rise.spread < 2.1 * SPREAD
    rise.restart()
    assert rise.spread == pytest.approx(SPREAD)


def test_a_change_that_stays_becomes_the_tracks_own():
    told = risen([(t / 5, -2.0 if t < 60 else 1.0) for t in range(60 + 5 * 120)])
    assert max(told[60:120]) > 2
    assert told[-1] < 0.3


def test_a_gap_ends_all_memory():
    told = risen([(t / 5, -2.0) for t in range(50)] + [(20 + t / 5, 2.0) for t in range(25)])
    assert told[49] is not None
    assert told[50:] == [None] * 25


def test_a_second_score_at_one_time_replaces_the_first():
    once, twice = Rise(), Rise()
    for t in range(60):
        once.update(t / 5, -1.0, 0.0)
        for logit in (3.0, -1.0):
            twice.update(t / 5, logit, 0.0)
    assert twice.earlier == pytest.approx(once.earlier)


def test_scores_that_come_too_fast_to_wait_are_taken_in_early():
    told = risen([(t / 1000, -1.0) for t in range(8000)])
    assert told[-1] == pytest.approx(0.0, abs=0.05)
