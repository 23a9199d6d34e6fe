"""How often to look."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.vision.sampler import Sampler, SamplerSettings


def searched(sampler, frames):
    return [index for index in range(frames) if sampler.detect_due(index / 25)]


def scored(sampler, times, track=1):
    return [pts for pts in times if sampler.classify_due(track, pts)]


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (5, [0]), (3, [0, 3])])
def test_every_kth_frame_is_searched_from_the_first(every, expected):
    assert searched(Sampler(SamplerSettings(detect_every=every)), 5) == expected


def test_every_detection_is_scored_at_the_same_rate():
    times = [index * 0.2 for index in range(50)]
    assert scored(Sampler(SamplerSettings(classify_hz=5)), times) == times


def test_jitter_costs_no_score():
    times = [index * 0.2 + (0.02, -0.02, 0.01, -0.025)[index % 4] for index in range(100)]
    assert scored(Sampler(SamplerSettings(classify_hz=5)), times) == times


def test_five_a_second_of_twenty_five():
    times = [index * 0.04 for index in range(250)]
    assert 49 <= len(scored(Sampler(SamplerSettings(classify_hz=5)), times)) <= 51


def test_slower_detections_are_all_scored():
    times = [index * 1.0 for index in range(20)]
    assert scored(Sampler(SamplerSettings(classify_hz=5)), times) == times


def test_tracks_have_schedules_of_their_own():
    sampler = Sampler(SamplerSettings(classify_hz=1))
    assert sampler.classify_due(1, 0.0)
    assert sampler.classify_due(2, 0.5)
    assert not sampler.classify_due(1, 0.5)
    assert sampler.classify_due(1, 1.0)
    assert not sampler.classify_due(2, 1.0)


def test_asking_without_being_due_books_nothing():
    sampler = Sampler(SamplerSettings(classify_hz=1))
    assert scored(sampler, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0]) == [0, 1.0]


def test_a_late_track_is_not_made_up_for():
    assert scored(Sampler(SamplerSettings(classify_hz=5)), [0.0, 10.0, 10.04, 10.08, 10.2]) == [0.0, 10.0, 10.2]


def test_a_forgotten_track_starts_anew():
    sampler = Sampler(SamplerSettings(classify_hz=1))
    assert sampler.classify_due(7, 0.0)
    sampler.forget(7)
    sampler.forget(8)
    assert sampler.classify_due(7, 0.1)


def test_never_over_the_rate_that_was_calibrated():
    times = [index * 0.04 for index in range(250)]
    assert len(scored(Sampler(SamplerSettings(classify_hz=25, highest_hz=5)), times)) <= 51
    assert len(scored(Sampler(SamplerSettings(classify_hz=2, highest_hz=5)), times)) <= 21


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
    found = scored(Sampler(SamplerSettings(classify_hz=hz)), times)
    assert found[0] == times[0]
    for first, start in enumerate(found):
        for last in range(first, len(found)):
            assert last - first + 1 <= hz * (found[last] - start) + 1.5 + 1e-6


@pytest.mark.parametrize("wrong", [{"detect_every": 0}, {"classify_hz": 0}, {"classify_hz": -5}, {"highest_hz": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplerSettings(**wrong)
