"""How often to look."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.vision.sampler import FULL, FrameSampler, Look, Need, Pace, SamplerSettings, TrackSampler

CALIBRATED = {"lowest_hz": 2.0, "highest_hz": 30.0}


def looks(sampler, frames, fps=25.0):
    return [sampler.look(index / fps) for index in range(frames)]


def searched(sampler, frames, fps=25.0):
    return [index for index, look in enumerate(looks(sampler, frames, fps)) if look is Look.SEARCH]


def scored(sampler, times, need=Need.USUAL, track=1):
    return [pts for pts in times if sampler.due(track, pts, need)]


# Frames


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (5, [0]), (3, [0, 3])])
def test_every_kth_frame_is_searched_from_the_first(every, expected):
    assert searched(FrameSampler(SamplerSettings(detect_every=every)), 5) == expected


def test_every_frame_means_every_frame():
    assert searched(FrameSampler(SamplerSettings(mode="every-frame", detect_every=5)), 10) == list(range(10))


def test_between_two_searches_there_is_a_frame_for_undecided_tracks():
    found = looks(FrameSampler(SamplerSettings()), 10)
    assert [index for index, look in enumerate(found) if look is Look.BETWEEN] == [3, 8]


def test_far_apart_searches_leave_frames_at_the_rate_of_undecided_tracks():
    found = looks(FrameSampler(SamplerSettings(detect_every=50)), 50)
    assert 14 <= found.count(Look.BETWEEN) <= 17, "every third of 25 a second, for 10 a second"


def test_frequent_searches_leave_nothing_between():
    assert Look.BETWEEN not in looks(FrameSampler(SamplerSettings(detect_every=2)), 50)


def test_a_new_session_starts_with_a_search():
    sampler = FrameSampler(SamplerSettings())
    assert searched(sampler, 4) == [0]
    sampler.restart()
    assert searched(sampler, 6) == [0, 5]


def test_an_overload_spreads_searches_but_not_under_the_lowest_rate():
    pace = FULL
    sampler = FrameSampler(SamplerSettings(**CALIBRATED), lambda: pace)
    pace = Pace("detection rate", lowest=True, spread=2.0)
    assert searched(sampler, 40) == [0, 10, 20, 30]
    sampler.restart()
    pace = replace(pace, spread=math.inf)
    assert searched(sampler, 40) == [0, 13, 26, 39], "half a second"
    sampler.restart()
    assert searched(sampler, 30, fps=5.0) == [0, 5, 10, 15, 20, 25], "never more often than is asked for"


# Tracks


def test_every_detection_is_scored_at_the_same_rate():
    times = [index * 0.2 for index in range(50)]
    assert scored(TrackSampler(SamplerSettings(classify_hz=5)), times) == times


def test_jitter_costs_no_score():
    times = [index * 0.2 + (0.02, -0.02, 0.01, -0.025)[index % 4] for index in range(100)]
    assert scored(TrackSampler(SamplerSettings(classify_hz=5)), times) == times


@pytest.mark.parametrize(("need", "rate"), [(Need.UNDECIDED, 10), (Need.USUAL, 5), (Need.SETTLED, 2.5)])
def test_scores_a_second_by_need(need, rate):
    times = [index * 0.04 for index in range(500)]
    assert 20 * rate - 1 <= len(scored(TrackSampler(SamplerSettings(**CALIBRATED)), times, need)) <= 20 * rate + 1


def test_a_settled_track_that_becomes_undecided_is_scored_soon():
    sampler = TrackSampler(SamplerSettings(**CALIBRATED))
    assert sampler.due(1, 0.0, Need.SETTLED)
    assert not sampler.due(1, 0.12, Need.SETTLED)
    assert sampler.due(1, 0.16, Need.UNDECIDED)


def test_slower_detections_are_all_scored():
    times = [index * 1.0 for index in range(20)]
    assert scored(TrackSampler(SamplerSettings(classify_hz=5)), times) == times


def test_tracks_have_schedules_of_their_own():
    sampler = TrackSampler(SamplerSettings(classify_hz=1))
    assert sampler.due(1, 0.0)
    assert sampler.due(2, 0.5)
    assert not sampler.due(1, 0.5)
    assert sampler.due(1, 1.0)
    assert not sampler.due(2, 1.0)


def test_asking_without_being_due_books_nothing():
    sampler = TrackSampler(SamplerSettings(classify_hz=1))
    assert scored(sampler, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0]) == [0, 1.0]


def test_a_late_track_is_not_made_up_for():
    assert scored(TrackSampler(SamplerSettings(classify_hz=5)), [0.0, 10.0, 10.04, 10.08, 10.2]) == [0.0, 10.0, 10.2]


def test_a_forgotten_track_starts_anew():
    sampler = TrackSampler(SamplerSettings(classify_hz=1, lowest_hz=1))
    assert sampler.due(7, 0.0)
    assert sampler.due(7, 5.0)
    assert sampler.too_slow(7)
    sampler.forget(7)
    sampler.forget(8)
    assert not sampler.too_slow(7)
    assert sampler.due(7, 5.1)


@pytest.mark.parametrize("need", Need)
@pytest.mark.parametrize("pace", [FULL, Pace("classification rate", ceiling=1.0), Pace("drops", lowest=True)])
@pytest.mark.parametrize("hz", [0.1, 1, 5, 25, 100])
def test_always_between_the_rates_that_were_calibrated(need, pace, hz):
    assert 2 <= SamplerSettings(classify_hz=hz, lowest_hz=2, highest_hz=30).rate(need, pace) <= 30


def test_an_overload_first_takes_the_extra_scores_then_all_but_the_lowest_rate():
    usual = SamplerSettings(**CALIBRATED)
    first, second = Pace("classification rate", ceiling=1.0), Pace("classification rate", lowest=True)
    assert [usual.rate(need, first) for need in Need] == [5, 5, 2.5]
    assert [usual.rate(need, second) for need in Need] == [2, 2, 2]


@settings(deadline=None)
@given(
    steps=st.lists(st.floats(0.001, 1.5), min_size=1, max_size=200),
    hz=st.floats(0.5, 30),
)
def test_the_rate_is_kept_whatever_the_frames_do(steps, hz):
    """In any stretch of time there are at most rate x time scores, and one and a half for its two ends."""
    times, now = [], 0.0
    for step in steps:
        times.append(now := now + step)
    found = scored(TrackSampler(SamplerSettings(classify_hz=hz)), times)
    assert found[0] == times[0]
    for first, start in enumerate(found):
        for last in range(first, len(found)):
            assert last - first + 1 <= hz * (found[last] - start) + 1.5 + 1e-6


# Too slow


@pytest.mark.parametrize(("fps", "slow"), [(1, True), (1.5, True), (2, False), (5, False)])
def test_scores_under_the_lowest_rate_are_too_slow(fps, slow):
    sampler = TrackSampler(SamplerSettings(**CALIBRATED))
    verdicts = []
    for index in range(20):
        assert sampler.due(1, index / fps)
        verdicts.append(sampler.too_slow(1))
    assert not verdicts[0], "one score has no rate"
    assert set(verdicts[1:]) == {slow}


def test_a_face_that_was_away_for_a_while_is_not_slow():
    sampler = TrackSampler(SamplerSettings(**CALIBRATED))
    scored(sampler, [index / 5 for index in range(10)])
    assert sampler.due(1, 3.3)
    assert not sampler.too_slow(1)


def test_scores_that_become_seldom_are_too_slow_after_a_few():
    sampler = TrackSampler(SamplerSettings(**CALIBRATED))
    scored(sampler, [index / 5 for index in range(10)])
    verdicts = []
    for index in range(8):
        assert sampler.due(1, 3.0 + index)
        verdicts.append(sampler.too_slow(1))
    assert verdicts[0] is False
    assert verdicts[-4:] == [True] * 4


def test_scores_between_rare_searches_make_no_higher_rate():
    sampler = TrackSampler(SamplerSettings(**CALIBRATED))
    for second in range(4):
        assert sampler.due(1, second, Need.UNDECIDED)
        for between in (0.12, 0.24):
            assert sampler.due(1, second + between, Need.UNDECIDED, searched=False)
    assert sampler.too_slow(1)


def test_without_a_lowest_rate_nothing_is_too_slow():
    sampler = TrackSampler(SamplerSettings())
    assert scored(sampler, [0.0, 60.0, 120.0]) == [0.0, 60.0, 120.0]
    assert not sampler.too_slow(1)


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"detect_every": 0},
        {"classify_hz": 0},
        {"classify_hz": -5},
        {"highest_hz": 0},
        {"lowest_hz": 0},
        {"max_staleness": 0},
        {"lowest_hz": 3, "highest_hz": 2},
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplerSettings(**wrong)


def test_settings_may_narrow_what_was_calibrated_and_not_widen_it():
    inside = SamplerSettings(lowest_hz=3, highest_hz=50).within(2, 30)
    assert (inside.lowest_hz, inside.highest_hz) == (3, 30)
    whole = SamplerSettings(lowest_hz=1).within(2, 30)
    assert (whole.lowest_hz, whole.highest_hz) == (2, 30)
    with pytest.raises(ValueError, match="lowest_hz is 40"):
        SamplerSettings(lowest_hz=40).within(2, 30)


def test_what_a_mode_lets_wait():
    latency, throughput, every = (SamplerSettings(mode=mode) for mode in ("latency", "throughput", "every-frame"))
    assert latency.waiting == 1 < throughput.waiting < every.waiting
    assert latency.batch_wait < throughput.batch_wait
