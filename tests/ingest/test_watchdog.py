"""The watchdog, second by second."""

import numpy as np
import pytest

from streamguard.frames import Picture
from streamguard.ingest.watchdog import CatchUp, Lateness, Watchdog, WatchdogSettings


def picture(level=100, *, dot=None, noise=0.0, seed=0):
    y = np.full((360, 640), level, np.float32)
    if noise:
        y += np.random.default_rng(seed).normal(0, noise, y.shape)
    if dot is not None:
        y[200:220, dot : dot + 20] = 250
    half = np.full((180, 320), 128, np.uint8)
    return Picture(y.clip(0, 255).astype(np.uint8), half, half)


def test_a_source_that_never_opens_stalls_after_its_own_limit():
    dog = Watchdog(100.0)
    assert dog.verdict(114.9) == "fine"
    assert dog.verdict(115.0) == "stalled"


def test_no_frame_for_five_seconds_is_a_stall():
    dog = Watchdog(0.0)
    dog.opened(10.0)
    assert dog.verdict(14.9) == "fine"
    assert dog.verdict(15.0) == "stalled"
    dog.fed(15.0, picture())
    assert dog.verdict(19.9) == "fine"
    assert dog.verdict(20.0) == "stalled"


def watched(pictures, step=0.04):
    """Verdict behind each of the pictures, ``step`` seconds apart."""
    dog = Watchdog(0.0)
    dog.opened(0.0)
    seen = []
    for index, shown in enumerate(pictures):
        dog.fed(index * step, shown)
        seen.append(dog.verdict(index * step))
    return seen


def test_ten_seconds_of_one_picture_are_frozen():
    seen = watched([picture(dot=50)] * 300)
    assert seen.index("frozen") == 250
    assert set(seen[250:]) == {"frozen"}


def test_a_frozen_picture_that_moves_again_is_fine():
    seen = watched([picture(dot=50)] * 260 + [picture(dot=90)] * 13)
    assert seen[259] == "frozen"
    assert seen[-1] == "fine"


def test_small_movement_is_movement():
    assert set(watched([picture(dot=50 + i // 5) for i in range(300)])) == {"fine"}
    assert set(watched([picture(dot=50 if i // 25 % 2 else None) for i in range(300)])) == {"fine"}


def test_a_slow_change_of_light_is_movement():
    assert set(watched([picture(level=100 + i // 20) for i in range(300)])) == {"fine"}


def test_encoders_that_send_a_frozen_picture_again_do_not_hide_it():
    shown = [picture(dot=50, noise=0.5, seed=i // 50) for i in range(300)]
    assert watched(shown)[-1] == "frozen"


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1080, 1920)])
def test_any_size_of_picture(size):
    dog = Watchdog(0.0, WatchdogSettings(frozen=1.0))
    y = np.zeros(size, np.uint8)
    half = np.zeros(((size[0] + 1) // 2, (size[1] + 1) // 2), np.uint8)
    for second in range(3):
        dog.fed(float(second), Picture(y, half, half))
    assert dog.verdict(2.0) == "frozen"


def fed(lateness, *pairs):
    return [lateness.fed(pts, now) for pts, now in pairs]


def test_a_burst_that_makes_up_for_itself_is_not_late():
    lateness = Lateness(2.0)
    assert fed(lateness, (0.0, 100.0), (1.0, 104.0), (2.0, 104.1), (3.0, 104.2), (4.0, 104.3)) == [False] * 5


def test_what_stays_behind_is_late():
    lateness = Lateness(2.0)
    assert fed(lateness, *((float(n), 100.0 + n) for n in range(5))) == [False] * 5
    assert fed(lateness, (5.0, 107.5), (6.0, 108.5), (6.9, 109.4), (7.0, 109.5)) == [False, False, False, True]
    assert fed(lateness, (8.0, 108.5)) == [False], "it has caught up"


def test_clocks_that_drift_apart_are_not_late():
    """A sender whose clock is slow by 100 parts in a million is a second behind after three hours."""
    lateness = Lateness(2.0)
    assert not any(lateness.fed(n * 10 * 0.9999, n * 10.0) for n in range(8 * 360))


class Sender:
    """25 packets a second from second 100 on, a keyframe each second; read by somebody who takes ``slow`` seconds for
    each that is wanted, and a millisecond for any other. ``lags``: seconds behind the sender, of those wanted."""

    def __init__(self, limit=1.0, gop=25):
        self.catch_up, self.gop = CatchUp(limit), gop
        self.now, self.number = 100.0, 0
        self.lags, self.skipped, self.resumed = [], [], []

    def read(self, packets, *, slow=0.0, delay=0.0):
        """``delay``: of every packet on its way."""
        for _ in range(packets):
            pts = self.number / 25
            came = 100.0 + pts + delay
            waited = max(0.0, came - self.now)
            self.now += waited
            keyframe = self.number % self.gop == 0
            if self.catch_up.wanted(pts, self.now, keyframe=keyframe, waited=waited):
                if self.skipped and self.skipped[-1] == self.number - 1:
                    self.resumed.append(keyframe)
                self.lags.append(self.now - 100.0 - pts)
                self.now += slow
            else:
                self.skipped.append(self.number)
                self.now += 0.001
            self.number += 1
        return self


def test_who_keeps_up_decodes_all():
    assert Sender().read(5000, slow=0.039).skipped == []


def test_who_is_too_slow_is_never_late_by_more_than_seconds():
    sender = Sender().read(10_000, slow=0.06)
    assert max(sender.lags) < 2.6, "a second, for a second, and what comes up in it"
    assert 0.25 < len(sender.skipped) / 10_000 < 0.4, "no more than has to be: a third"
    assert set(sender.resumed) == {True}, "only a keyframe can be decoded without those before it"


def test_without_leaving_out_it_would_be_minutes():
    assert max(Sender(limit=1e9).read(10_000, slow=0.06).lags) > 120


def test_a_longer_way_is_no_reason_to_leave_anything_out():
    """A server that was frozen and goes on where it was; a route that takes three seconds more."""
    sender = Sender().read(500, slow=0.01).read(2000, slow=0.01, delay=3.0)
    assert sender.skipped == []
    sender.read(2000, slow=0.06, delay=3.0)
    assert 0 < len(sender.skipped) < 1000
    assert max(sender.lags) < 3.0 + 2.6


def test_timestamps_that_jump_back_are_no_delay():
    catch_up = CatchUp(1.0)
    stamps = [n / 25 for n in range(500)] + [n / 25 for n in range(500)]
    assert all(catch_up.wanted(pts, 100 + n / 25, keyframe=n % 25 == 0, waited=0.001) for n, pts in enumerate(stamps))


def test_where_nothing_can_be_won_decoding_goes_on():
    """A sender that never lets its reader wait, and sends too slowly."""
    catch_up = CatchUp(1.0)
    wanted = [catch_up.wanted(n / 25, 100 + n / 20, keyframe=n % 25 == 0, waited=0.0) for n in range(2000)]
    assert sum(wanted) > 1000
    assert wanted[-500:].count(False) < 300
