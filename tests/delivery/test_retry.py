"""When a sink is tried again."""

from __future__ import annotations

import random

import pytest

from streamguard.delivery.retry import Retry, RetrySettings


class Highest(random.Random):
    """Always draws the ceiling."""

    def uniform(self, low: float, high: float) -> float:
        return high


class Lowest(random.Random):
    """Always draws the floor."""

    def uniform(self, low: float, high: float) -> float:
        return low


def test_the_ceiling_doubles_up_to_the_longest() -> None:
    retry = Retry(Highest(), RetrySettings(first=0.5, longest=3.0))
    assert [retry.failed() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_jitter_is_full() -> None:
    retry = Retry(Lowest())
    assert [retry.failed() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_success_starts_again_from_the_first() -> None:
    retry = Retry(Highest(), RetrySettings(first=0.5))
    retry.failed()
    retry.failed()
    retry.succeeded()
    assert retry.failed() == 0.5


@pytest.mark.parametrize(("asked", "delay"), [(30.0, 30.5), (0.0, 0.5), (-5.0, 0.5), (1e9, 900.5)])
def test_what_the_far_side_asks_for_is_the_least_within_reason(asked: float, delay: float) -> None:
    assert Retry(Highest()).failed(retry_after=asked) == delay


def test_a_thousand_failures_are_no_overflow() -> None:
    retry = Retry(Highest())
    assert {retry.failed() for _ in range(5000)} >= {60.0}
