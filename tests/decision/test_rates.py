"""The same evidence at 2, 5 and 25 scores a second, and at rates that change on the way, gives the same decision.

That is what lets a machine score an undecided face more often, a settled one less, and all of them less under load.
Nothing can see what happens between two scores: the shortest passage that is found, here about 3 s, and the longest gap
that is bridged, about 1.5 s, differ by up to a quarter of a second between 2 and 25 scores a second.
"""

import math

import numpy as np
import pytest

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.segments import DecisionSettings, TrackJudge
from streamguard.decision.statistics import Ewma
from streamguard.frames import Score, State

SECONDS = 60
RATES = (2, 5, 25)
POINT = OperatingPoint("default", 1.776, "of the shipped engine")


def swing(pts, seed):
    """A sum of slow waves, the same for every rate: what pose and light do to the scores of one face."""
    rng = np.random.default_rng(seed)
    periods, phases = rng.uniform(3, 12, 4), rng.uniform(0, 2 * math.pi, 4)
    return 0.25 * sum(
        math.sin(2 * math.pi * pts / period + phase) for period, phase in zip(periods, phases, strict=True)
    )


def passages(*forged, seed=0, low=-2.5, high=3.5):
    """``high`` in the passages, ``low`` outside, a quarter of a second from one to the other, and a swing over it."""

    def evidence(pts):
        share = max((min(1.0, max(0.0, min(pts - start, end - pts) / 0.25)) for start, end in forged), default=0.0)
        return low + (high - low) * share + swing(pts, seed)

    return evidence


EVIDENCE = {
    "real": passages(),
    "forged": passages((-1, SECONDS + 1)),
    "a passage of 8 s": passages((20, 28), seed=1),
    "a passage of 3.5 s": passages((20, 23.5), seed=2),
    "a passage of 2.5 s": passages((20, 22.5), seed=2),
    "two passages": passages((10, 16), (40, 50), seed=3),
    "a dip that is bridged": passages((10, 20), (21.25, 30), seed=4),
    "weak evidence": passages((10, 30), high=1.0, seed=5),
    "a flash": passages((30, 30.6), seed=6),
    "a hostile clip": passages((20, 28), low=-40, high=40, seed=7),
}


def steady(hz):
    return [index / hz for index in range(SECONDS * hz + 1)]


def changing():
    """2, then 25, then 5 scores a second, over and over, every 4 s."""
    times, now = [], 0.0
    while now < SECONDS:
        times.append(now)
        now += 1 / RATES[(0, 2, 1)[int(now / 4) % 3]]
    return times


def decided(evidence, times):
    """(state of the whole, closed or open segments, changes of state without their times)."""
    judge = TrackJudge(DecisionSettings(), POINT, "cam", 1, 1)
    changes = [change for pts in times for change in judge.observe(Score(1, pts, evidence(pts)))]
    changes += judge.end(times[-1], "end of stream")
    segments = [change.segment for change in changes if change.kind == "closed"]
    states = [change.state for change in changes if change.kind == "state"]
    return judge.judged.state, segments, states


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_rate_gives_the_same_decision(name):
    evidence = EVIDENCE[name]
    state, segments, states = decided(evidence, steady(25))
    for times in (steady(2), steady(5), changing()):
        other_state, other_segments, other_states = decided(evidence, times)
        assert other_state is state
        assert other_states == states
        assert len(other_segments) == len(segments)
        for one, other in zip(other_segments, segments, strict=True):
            assert one.started == pytest.approx(other.started, abs=0.3)
            assert one.ended == pytest.approx(other.ended, abs=0.5), "a score may come half a second late"
            assert one.peak == pytest.approx(other.peak, abs=0.35)


def test_the_evidence_covers_every_decision():
    found = {name: decided(evidence, steady(5)) for name, evidence in EVIDENCE.items()}
    assert {name: len(segments) for name, (_, segments, _) in found.items()} == {
        "real": 0,
        "forged": 1,
        "a passage of 8 s": 1,
        "a passage of 3.5 s": 1,
        "a passage of 2.5 s": 0,
        "two passages": 2,
        "a dip that is bridged": 1,
        "weak evidence": 0,
        "a flash": 0,
        "a hostile clip": 1,
    }
    assert {state for state, _, _ in found.values()} == {State.CLEAR, State.FLAGGED}


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_rate_gives_the_same_statistic(name):
    """Within what half a second without a score can hide of a change."""
    evidence, tracks = EVIDENCE[name], {}
    for hz in RATES:
        statistic = Ewma()
        values = [statistic.update(pts, evidence(pts)) for pts in steady(hz)]
        tracks[hz] = values[2 * hz :: hz]  # once a second
    for hz in (2, 5):
        worst = max(abs(one - other) for one, other in zip(tracks[hz], tracks[25], strict=True))
        assert worst < 0.9 * (1 - math.exp(-0.5 / 2)) * 8, "a jump of 8, two clips, that came half a second late"


@pytest.mark.parametrize("hz", RATES)
def test_what_is_just_found_is_nearly_the_same_at_every_rate(hz):
    def found(length):
        return len(decided(passages((20, 20 + length), seed=2), steady(hz))[1])

    def bridged(gap):
        return len(decided(passages((10, 20), (20 + gap, 30), seed=4), steady(hz))[1]) == 1

    assert [found(2.75), found(3.25)] == [0, 1]
    assert [bridged(1.25), bridged(1.75)] == [True, False]
