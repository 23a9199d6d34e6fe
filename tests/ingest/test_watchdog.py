"""The watchdog, second by second."""

import numpy as np
import pytest

from streamguard.frames import Picture
from streamguard.ingest.watchdog import Lateness, Watchdog, WatchdogSettings


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
