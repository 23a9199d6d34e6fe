"""Back-off, delay by delay."""

import random

import pytest

from streamguard.ingest.reconnect import Backoff, BackoffSettings


class Highest(random.Random):
    """Jitter at its upper end."""

    def uniform(self, a, b):
        return b


def delays(*steps, rng=None):
    backoff = Backoff(rng or Highest())
    return [backoff.delay(*step) for step in steps]


def test_delays_double_up_to_the_longest():
    assert delays(*[("lost",)] * 9) == [0.25, 0.5, 1, 2, 3, 3, 3, 3, 3]


def test_hundreds_of_failures_do_not_overflow():
    assert delays(*[("lost",)] * 2000)[-1] == 3


def test_jitter_draws_from_the_upper_half():
    drawn = delays(*[("lost",)] * 2000, rng=random.Random(7))[20:]
    assert 1.5 <= min(drawn) < 1.55
    assert 2.95 < max(drawn) <= 3.0
    assert sum(drawn) / len(drawn) == pytest.approx(2.25, abs=0.03)


def test_two_sources_do_not_come_back_in_step():
    assert delays(("lost",), rng=random.Random(1)) != delays(("lost",), rng=random.Random(2))


def test_a_good_stretch_starts_again_from_the_first():
    assert delays(("lost",), ("lost",), ("ended", 9.9), ("ended", 10.0), ("lost",)) == [0.25, 0.5, 1, 0.25, 0.5]


def test_wrong_credentials_wait_long_and_do_not_lengthen_the_rest():
    assert delays(("denied",), ("denied",), ("lost",)) == [60, 60, 0.25]


def test_a_changed_picture_is_opened_again_at_once_unless_it_changes_all_the_time():
    assert delays(("changed", 4.0), ("changed", 0.1), ("changed", 0.1)) == [0, 0.25, 0.5]


def test_settings():
    backoff = Backoff(Highest(), BackoffSettings(first=1, longest=3, denied=7, good=2))
    assert [backoff.delay(r) for r in ("lost", "lost", "lost", "denied")] == [1, 2, 3, 7]
