"""The clocks of a live connection."""

import pytest

from streamguard.ingest.capture import Capture, CaptureClock, Pacer
from streamguard.ingest.timeline import Gaps


def test_without_a_sender_report_a_picture_was_taken_a_frame_before_it_came():
    clock = CaptureClock(rate=10.0)
    assert clock.capture(5.0, 1000.0) == Capture(999.9, "arrival")
    assert CaptureClock(None).capture(None, 1000.0) == Capture(999.96, "arrival")
    assert clock.offset is None


def test_the_sender_says_when():
    clock = CaptureClock(rate=25.0)
    clock.heard(pts=100.0, wall=5000.0)
    assert clock.capture(100.0, 5000.3) == Capture(5000.0, "rtcp")
    assert clock.offset == pytest.approx(0.3)
    assert clock.capture(102.5, 5002.6) == Capture(5002.5, "rtcp")
    assert clock.offset == pytest.approx(0.1)


def test_a_report_may_speak_of_a_later_picture():
    clock = CaptureClock(rate=25.0)
    clock.heard(pts=100.08, wall=5000.08)
    assert clock.capture(100.0, 5000.2) == Capture(5000.0, "rtcp")


@pytest.mark.parametrize("wrong", [3600.0, -3600.0, 5.5, -5.5])
def test_a_clock_that_is_far_off_is_shown_and_not_believed(wrong):
    clock = CaptureClock(rate=25.0)
    clock.heard(pts=0.0, wall=5000.0 - wrong)
    assert clock.capture(0.0, 5000.0) == Capture(4999.96, "arrival")
    assert clock.offset == pytest.approx(wrong)


def test_a_clock_that_is_set_right_is_believed_again():
    clock = CaptureClock(rate=25.0)
    clock.heard(pts=0.0, wall=0.0)
    assert clock.capture(1.0, 5001.1).clock == "arrival"
    clock.heard(pts=2.0, wall=5002.0)
    assert clock.capture(2.0, 5002.1) == Capture(5002.0, "rtcp")


def test_pictures_without_timestamp_count_by_arrival():
    clock = CaptureClock(rate=25.0)
    clock.heard(pts=0.0, wall=5000.0)
    assert clock.capture(None, 5000.1).clock == "arrival"


def shown(pacer, arrivals):
    """When each (pts, arrival) is shown, one after the other."""
    now, times = 0.0, []
    for pts, arrival in arrivals:
        now = max(now, arrival)
        now += pacer.wait(pts, now)
        times.append(round(now, 6))
    return times


def test_bursts_are_spread():
    burst = [(i / 4, 10.0) for i in range(4)] + [(1 + i / 4, 11.0) for i in range(4)]
    assert shown(Pacer(1.0), burst) == [10.0, 10.25, 10.5, 10.75, 11.0, 11.25, 11.5, 11.75]


def test_a_late_burst_is_shown_at_once_and_counts_from_there():
    late = [(0.0, 10.0), (0.5, 10.0), (1.0, 13.0), (1.5, 13.0)]
    assert shown(Pacer(1.0), late) == [10.0, 10.5, 13.0, 13.5]


def test_timestamps_that_jump_are_not_waited_for():
    jump = [(0.0, 10.0), (0.5, 10.0), (900.0, 10.5), (900.5, 10.5)]
    assert shown(Pacer(1.0), jump) == [10.0, 10.5, 10.5, 11.0]


def test_speed_drains_what_has_piled_up():
    piled = [(i / 10, 0.0) for i in range(101)]
    assert shown(Pacer(1.25), piled)[-1] == pytest.approx(8.0)


def missing(times):
    gaps = Gaps()
    return [i for i, seconds in enumerate(times) if gaps.missing(seconds)]


def test_a_lost_picture_shows_in_a_regular_stream():
    times = [i / 25 for i in range(60) if i not in (30, 45, 46)]
    assert missing(times) == [30, 44]


def test_small_jitter_is_regular():
    times = [i / 25 + (0.004 if i % 3 else 0.0) for i in range(60)]
    assert missing(times) == []


def test_a_camera_that_varies_its_rate_loses_nothing():
    times, now = [], 0.0
    for i in range(80):
        now += 0.04 if i % 2 else 0.09
        times.append(now)
    assert missing(times) == []


def test_a_new_rate_is_learned():
    slow = [1.0 + (i + 1) / 10 for i in range(40)]
    found = missing([i / 25 for i in range(26)] + slow)
    assert found
    assert max(found) < 26 + 10


def test_nothing_is_judged_before_it_is_known():
    assert missing([0.0, 0.04, 0.2, 0.24]) == []
