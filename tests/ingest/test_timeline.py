"""Stream time and damage, step by step."""

import pytest

from streamguard.ingest.timeline import HEALS_AFTER, Damage, StreamTime


def times(pts, rate=25.0, origin=None):
    clock = StreamTime(rate, origin)
    return [clock.at(p) for p in pts]


def test_time_starts_at_the_first_frame():
    assert times([100.0, 100.04, 100.08]) == [0.0, 0.04, 0.08]


def test_a_given_origin_keeps_the_lead_of_the_sound():
    assert times([0.5, 0.54], origin=0.4) == [0.1, 0.14]
    assert times([0.3, 0.34], origin=0.4) == [0.0, 0.04], "never negative"


def test_missing_timestamps_are_estimated_from_the_rate():
    assert times([None, None, None], rate=10.0) == [0.0, 0.1, 0.2]
    assert times([None, 5.0], rate=None) == [0.0, 0.04], "25 a second where no rate is known"


def test_gaps_stay():
    assert times([0.0, 0.04, 3.0]) == [0.0, 0.04, 3.0]


@pytest.mark.parametrize("again", [0.04, 0.0, -50.0])
def test_timestamps_that_do_not_rise_move_the_origin(again):
    seen = times([0.0, 0.04, again, again + 0.04])
    assert seen == pytest.approx([0.0, 0.04, 0.08, 0.12])


def test_of_reads_without_moving():
    clock = StreamTime(25.0)
    clock.at(7.0)
    assert clock.of(9.5) == 2.5
    assert clock.last == 0.0


def judged(*frames):
    damage = Damage()
    seen = []
    for seconds, what in frames:
        if "lost" in what:
            damage.lost()
        seen.append(damage.judge(seconds, corrupt="corrupt" in what, keyframe="key" in what))
    return seen


def test_sound_frames_are_not_damaged():
    assert judged((0, "key"), (1, ""), (2, "")) == [False] * 3


def test_a_repaired_picture_spoils_what_follows_until_a_keyframe():
    assert judged((0, "key"), (1, "corrupt"), (2, ""), (3, "key"), (4, "")) == [False, True, True, False, False]


def test_a_loss_spoils_what_follows_until_a_keyframe():
    assert judged((0, "key"), (1, "lost"), (2, ""), (3, "key")) == [False, True, True, False]


def test_a_keyframe_behind_a_loss_is_sound_unless_it_was_repaired_itself():
    assert judged((0, "lost key"), (1, "")) == [False, False]
    assert judged((0, "corrupt key"), (1, ""), (2, "key")) == [True, True, False]


def test_a_stream_without_keyframes_heals_in_the_end():
    assert judged((0, "corrupt"), (HEALS_AFTER, ""), (HEALS_AFTER + 0.1, "")) == [True, True, False]
