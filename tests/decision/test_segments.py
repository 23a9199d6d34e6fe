"""Scores of one track to flagged segments."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.passage import low_level
from streamguard.decision.segments import DecisionSettings, TrackJudge
from streamguard.frames import Score, State


def judge(threshold=1.0, track=1, session=1, stream="cam", rise=None, **options):
    point = OperatingPoint("default", threshold, "at most 1 % of real minutes", rise)
    return TrackJudge(DecisionSettings(**options), point, stream, session, track)


def feed(judge, logit, start, end, hz=5.0):
    """Scores of ``logit(pts)`` from ``start`` to before ``end`` seconds; the changes."""
    changes = []
    for index in range(round(start * hz), round(end * hz)):
        changes += judge.observe(Score(judge.track, index / hz, logit(index / hz)))
    return changes


def forged(*passages):
    """+3 within the passages, -3 outside."""
    return lambda pts: 3.0 if any(start <= pts < end for start, end in passages) else -3.0


def real(_):
    return -3.0


def fake(_):
    return 3.0


def kinds(changes):
    return [change.kind for change in changes]


def closed(changes):
    return [change.segment for change in changes if change.kind == "closed"]


# States


def test_it_starts_inconclusive():
    found = judge()
    assert (found.state, found.reason, found.statistic) == (State.INCONCLUSIVE, "too little evidence", 0.0)


def test_clear_takes_a_second_of_evidence():
    found = judge()
    assert feed(found, real, 0, 1) == []
    assert found.state is State.INCONCLUSIVE
    (change,) = feed(found, real, 1, 1.2)
    assert (change.kind, change.segment, change.state, change.reason, change.pts) == ("state", None, "clear", None, 1.0)
    assert change.score_logit == found.statistic < 0
    assert (found.state, found.reason) == (State.CLEAR, None)


def test_a_second_with_two_scores_is_not_enough():
    found = judge()
    found.observe(Score(1, 0.0, -3.0))
    found.observe(Score(1, 1.5, -3.0))
    assert found.state is State.INCONCLUSIVE
    found.observe(Score(1, 1.6, -3.0))
    assert found.state is State.CLEAR


@pytest.mark.parametrize("hz", [2, 5, 25])
def test_a_high_first_score_flags_nothing(hz):
    found = judge()
    changes = found.observe(Score(1, 0.0, 1e9)) + feed(found, real, 1 / hz, 20, hz)
    assert kinds(changes) == ["state"]
    assert found.state is State.CLEAR


def test_one_wild_score_in_between_flags_nothing():
    changes = feed(judge(), lambda pts: 1e9 if pts == 10 else -3.0, 0, 20)
    assert kinds(changes) == ["state"]


def test_without_scores_for_two_seconds_it_is_inconclusive():
    found = judge()
    feed(found, real, 0, 5)
    assert found.advance(6.8) == []
    assert found.state is State.CLEAR
    (change,) = found.advance(6.9)
    assert (change.kind, change.state, change.reason, change.pts) == ("state", State.INCONCLUSIVE, "no scores", 6.9)
    assert found.advance(100) == []


def test_the_reason_why_a_face_was_not_scored_is_shown():
    found = judge()
    feed(found, real, 0, 5)
    changes = [change for index in range(25, 50) for change in found.skip(index / 5, "too small")]
    assert [(change.kind, change.state, change.reason) for change in changes] == [
        ("state", State.INCONCLUSIVE, "too small")
    ]
    assert changes[0].pts == pytest.approx(7.0, abs=0.21)


def test_a_face_that_was_only_skipped_was_never_judged():
    found = judge()
    changes = [change for index in range(50) for change in found.skip(index / 5, "blurred")]
    assert [(change.state, change.reason) for change in changes] == [(State.INCONCLUSIVE, "blurred")]
    assert found.judged.state is State.INCONCLUSIVE
    assert (found.judged.reason, found.judged.peak, found.judged.frames) == ("blurred", None, 0)


def test_reasons_that_alternate_are_told_once_a_second():
    found = judge()
    changes = [
        change for index in range(51) for change in found.skip(index / 5, ("too small", "blurred")[index // 2 % 2])
    ]
    assert 5 <= len(changes) <= 11
    assert all(later.pts - earlier.pts > 0.99 for earlier, later in pairwise(changes))


def test_a_few_skipped_faces_change_nothing():
    found = judge()
    feed(found, real, 0, 5)
    assert found.skip(5.0, "blurred") == []
    assert found.state is State.CLEAR
    assert feed(found, real, 5.2, 8) == []


def test_after_silence_evidence_starts_afresh():
    found = judge()
    feed(found, real, 0, 5)
    found.advance(8)
    changes = feed(found, real, 10, 12)
    assert [(change.state, change.reason) for change in changes] == [
        (State.INCONCLUSIVE, "too little evidence"),
        (State.CLEAR, None),
    ]
    assert changes[-1].pts == pytest.approx(11.0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_skipped_face(broken):
    found = judge()
    changes = feed(found, lambda pts: broken, 0, 5)
    assert [(change.state, change.reason) for change in changes] == [(State.INCONCLUSIVE, "damaged score")]
    assert found.judged.frames == 0
    assert math.isfinite(found.statistic)


# Segments


def test_one_forged_passage():
    found = judge()
    changes = feed(found, forged((10, 18)), 0, 30)
    assert [kind for kind in kinds(changes) if kind != "updated"] == ["state", "opened", "state", "state", "closed"]
    opened = next(change for change in changes if change.kind == "opened")
    (end,) = closed(changes)
    assert opened.segment.ended is None
    assert opened.segment.id == end.id
    assert (opened.state, end.state) == (State.FLAGGED, State.FLAGGED)
    assert 10 <= opened.segment.started < 11
    assert end.started == opened.segment.started
    assert 18 < end.ended < 19.5
    overlap = (18 - end.started) / (end.ended - 10)
    assert overlap > 0.75
    assert found.judged.state is State.FLAGGED
    assert found.judged.segments == 1
    assert found.judged.peak == end.peak


def test_flagged_while_the_segment_is_open():
    changes = feed(judge(), forged((10, 18)), 0, 30)
    states = [(change.state, change.pts) for change in changes if change.kind == "state"]
    assert [state for state, _ in states] == [State.CLEAR, State.FLAGGED, State.CLEAR]
    opened = next(change.pts for change in changes if change.kind == "opened")
    (end,) = closed(changes)
    assert states[1][1] == opened
    assert 0 <= states[2][1] - end.ended <= 0.2


def test_closed_two_seconds_after_the_fall():
    changes = feed(judge(), forged((10, 18)), 0, 30)
    change = next(change for change in changes if change.kind == "closed")
    assert change.pts - change.segment.ended == pytest.approx(2.0, abs=0.2)
    assert change.reason is None


def test_a_track_forged_from_its_first_frame():
    changes = feed(judge(), fake, 0, 5)
    assert kinds(changes)[:2] == ["opened", "state"]
    assert changes[0].segment.started == 0.0
    assert 1.0 <= changes[0].pts < 2.0


def test_updates_come_once_a_second():
    changes = feed(judge(), fake, 0, 20, hz=25)
    times = [change.pts for change in changes if change.kind in {"opened", "updated"}]
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([1.0] * (len(times) - 1))
    assert len(times) >= 18


def test_updates_tell_how_the_segment_grows():
    segments = [change.segment for change in feed(judge(), fake, 0, 10) if change.segment]
    assert len({segment.id for segment in segments}) == 1
    assert all(later.frames - earlier.frames == 5 for earlier, later in pairwise(segments))
    assert [segment.peak for segment in segments] == sorted(segment.peak for segment in segments)


def test_mean_and_peak_are_the_statistics_own():
    found = judge()
    seen = []
    for index in range(60):
        found.observe(Score(1, index / 5, 3.0))
        seen.append(found.statistic)
    (change,) = [change for change in found.end(12.0, "face gone") if change.kind == "closed"]
    above = [value for value in seen if value >= low_level(1.0)]
    assert change.segment.frames == len(above)
    assert change.segment.mean == pytest.approx(sum(above) / len(above))
    assert change.segment.peak == max(seen)


def test_a_short_excursion_is_never_opened():
    """The statistic is over the threshold for a moment, above the low level for less than a second."""
    found = judge(tau=0.3)
    changes = feed(found, lambda pts: 4.0 if 10 <= pts < 10.4 else -3.0, 0, 20)
    assert kinds(changes) == ["state"]
    assert found.judged.peak > 1.0  # it did cross the threshold


def test_gaps_under_two_seconds_merge():
    changes = feed(judge(tau=0.5), forged((10, 14), (15, 20)), 0, 30)
    assert kinds(changes).count("opened") == 1
    (segment,) = closed(changes)
    assert segment.started < 11
    assert segment.ended > 20


def test_gaps_over_two_seconds_do_not():
    changes = feed(judge(tau=0.5), forged((10, 14), (16.5, 22)), 0, 30)
    first, second = closed(changes)
    assert first.id != second.id
    assert first.ended < 15
    assert second.started >= first.ended + 2


def test_a_new_segment_never_begins_within_two_seconds_of_the_last():
    """The statistic leaves its low level soon after the fall, but crosses the threshold only after two seconds."""

    def evidence(pts):
        return 3.0 if 10 <= pts < 14 or 17 <= pts < 22 else 0.8 if 15 <= pts < 17 else -3.0

    first, second = closed(feed(judge(tau=0.5), evidence, 0, 30))
    assert second.started == pytest.approx(first.ended + 2)
    assert second.frames == sum(second.started <= index / 5 <= second.ended for index in range(150))


def test_hysteresis_between_the_levels():
    """Down to between threshold and low level, and up again: the same segment, and no change of state."""
    changes = feed(judge(), lambda pts: -3.0 if pts < 5 else 3.0 if pts < 10 else 0.75, 0, 30)
    assert [kind for kind in kinds(changes) if kind != "updated"] == ["state", "opened", "state"]


def test_silence_closes_a_segment_at_its_last_score():
    found = judge()
    feed(found, fake, 0, 5)
    closing, state = found.advance(7.0)
    assert (closing.kind, closing.reason, closing.pts) == ("closed", "no scores", 7.0)
    assert closing.segment.ended == pytest.approx(4.8)
    assert (state.kind, state.state, state.reason) == ("state", State.INCONCLUSIVE, "no scores")


def test_silence_that_only_the_next_score_reveals():
    found = judge()
    feed(found, fake, 0, 5)
    changes = found.observe(Score(1, 9.0, 3.0))
    assert kinds(changes) == ["closed", "state"]
    assert changes[0].segment.ended == pytest.approx(4.8)
    assert found.state is State.INCONCLUSIVE


def test_the_end_of_a_track_closes_its_segment():
    found = judge()
    feed(found, fake, 0, 5)
    closing, state = found.end(6.2, "face gone")
    assert (closing.kind, closing.reason, closing.segment.ended) == ("closed", "face gone", pytest.approx(4.8))
    assert (state.state, state.reason) == (State.INCONCLUSIVE, "face gone")


def test_the_end_while_falling_closes_at_the_fall():
    found = judge()
    feed(found, forged((0, 5)), 0, 7)
    assert found.state is State.CLEAR
    closing, _ = found.end(7.0, "face gone")
    assert 5 < closing.segment.ended < 6.5
    assert closing.reason is None


def test_nothing_comes_after_the_end():
    found = judge()
    feed(found, fake, 0, 5)
    found.end(5.0, "face gone")
    assert found.end(6.0, "again") == []
    assert found.advance(9.0) == []
    assert found.skip(9.0, "blurred") == []
    assert found.observe(Score(1, 9.0, 3.0)) == []
    assert found.judged.segments == 1


def test_the_end_of_a_track_without_evidence_is_silent():
    found = judge()
    found.observe(Score(1, 0.0, 3.0))
    assert found.end(1.0, "face gone") == []


def test_a_pending_passage_dies_with_its_track():
    found = judge()
    feed(found, lambda pts: -3.0 if pts < 5 else 4.0, 0, 6.8)
    assert found.statistic >= 1.0
    assert kinds(found.end(6.8, "face gone")) == ["state"]


def test_segment_ids_are_the_same_for_a_replay_and_for_nothing_else():
    def first(**options):
        changes = feed(judge(**options), forged((5, 10), (20, 25)), 0, 30)
        return [segment.id for segment in closed(changes)]

    others = [first(), first(track=2), first(session=2), first(stream="door"), first(stream="1/cam")]
    assert first() == others[0]
    assert len({segment for ids in others for segment in ids}) == 10


@pytest.mark.parametrize("threshold", [2.0, 1.0, 0.5, 0.2, 0.0, -0.5, -2.0])
def test_any_threshold_is_sound(threshold):
    """A clean passage is found and nothing else, whatever the sign of the threshold."""
    changes = feed(judge(threshold), lambda pts: 4.0 if 10 <= pts < 20 else -4.0, 0, 40)
    (segment,) = closed(changes)
    assert 8 < segment.started < 12.5
    assert 20 < segment.ended < 25
    assert [change.state for change in changes if change.kind == "state"] == [
        State.CLEAR,
        State.FLAGGED,
        State.CLEAR,
    ]


@pytest.mark.parametrize("hz", [2, 25])
@pytest.mark.parametrize("passage", [(10.0, 18.0), (6.0, 11.0), (10.0, 28.0)])
def test_the_same_decision_at_any_rate(hz, passage):
    """2 and 25 scores a second against 5: the same segments, borders within a quarter of a second."""

    def evidence(pts):
        return forged(passage)(pts) + 0.5 * math.sin(1.7 * pts)

    (expected,) = closed(feed(judge(), evidence, 0, 40))
    (found,) = closed(feed(judge(), evidence, 0, 40, hz))
    assert found.started == pytest.approx(expected.started, abs=0.25)
    assert found.ended == pytest.approx(expected.ended, abs=0.25)
    assert found.mean == pytest.approx(expected.mean, abs=0.25)
    assert found.peak == pytest.approx(expected.peak, abs=0.25)


@pytest.mark.parametrize(
    ("name", "value"), [("tau", 0.0), ("clip", 0.0), ("least", -1.0), ("merge", math.inf), ("every", math.nan)]
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        DecisionSettings(**{name: value})


# What holds for any scores


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["observe", "observe", "observe", "observe", "observe", "skip", "advance"]),
        st.sampled_from([0.04, 0.2, 0.2, 0.2, 0.5, 1.0, 1.9, 2.5, 6.0]),
        st.sampled_from([-3.0, -1.0, 0.4, 1.2, 3.0]),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=40,
)


def play(found, calls):
    """(pts, changes, state, seconds since the last score) after each call; each call is repeated a few times."""
    pts, last = 0.0, -math.inf
    for name, step, logit, times in calls:
        for _ in range(times):
            pts += step
            if name == "observe":
                last = pts
                changes = found.observe(Score(1, pts, logit))
            elif name == "skip":
                changes = found.skip(pts, "too small")
            else:
                changes = found.advance(pts)
            yield pts, changes, found.state, pts - last
    yield pts, found.end(pts, "face gone"), found.state, pts - last


@settings(max_examples=300, deadline=None)
@given(calls=CALLS, threshold=st.sampled_from([2.0, 1.0, 0.3, -1.0]))
def test_what_holds_for_any_scores(calls, threshold):
    """Opened, updated, closed, in this order; one second at least; two seconds apart; never without evidence."""
    opened, done, announced, updated = None, [], State.INCONCLUSIVE, -math.inf
    for pts, changes, state, silence in play(judge(threshold), calls):
        for change in changes:
            assert change.pts == pts
            segment = change.segment
            if change.kind == "state":
                assert segment is None
                announced = change.state
            elif change.kind == "opened":
                assert opened is None
                assert segment.ended is None
                assert pts - segment.started >= 1 - 1e-6
                assert not done or segment.started >= done[-1].ended + 2 - 1e-6
                opened, updated = segment, pts
            else:
                assert (segment.id, segment.started) == (opened.id, opened.started)
                assert segment.frames >= opened.frames
                assert low_level(threshold) - 4 <= segment.mean <= segment.peak <= 4
                assert segment.peak >= threshold
            if change.kind == "updated":
                assert segment.ended is None
                assert pts - updated >= 1 - 1e-6
                updated = pts
            elif change.kind == "closed":
                assert segment.started + 1 - 1e-6 <= segment.ended <= pts
                done.append(segment)
                opened = None
        assert announced is state
        if silence > 2:
            assert state is State.INCONCLUSIVE
        if state is State.FLAGGED:
            assert opened is not None
    assert opened is None
    assert len({segment.id for segment in done}) == len(done)


@settings(max_examples=100, deadline=None)
@given(calls=CALLS)
def test_skipped_faces_are_never_evidence(calls):
    """With every score turned into a skipped face there is neither a segment nor a verdict."""
    found = judge(-3.0)
    for _, changes, state, _ in play(
        found, [("skip" if call[0] == "observe" else call[0], *call[1:]) for call in calls]
    ):
        assert state is State.INCONCLUSIVE
        assert all(change.kind == "state" for change in changes)
    assert found.judged.peak is None


@settings(max_examples=100, deadline=None)
@given(calls=CALLS)
def test_skipping_in_between_makes_no_segment_longer(calls):
    """The same scores with skipped faces between them: the same segments."""
    bare, mixed = judge(), judge()
    without = [segment for _, changes, _, _ in play(bare, calls) for segment in closed(changes)]
    found, pts = [], 0.0
    for name, step, logit, times in calls:
        for _ in range(times):
            found += closed(mixed.skip(pts + step / 2, "blurred"))
            pts += step
            if name == "observe":
                found += closed(mixed.observe(Score(1, pts, logit)))
    found += closed(mixed.end(pts, "face gone"))
    assert found == without


# A rise over the track's own earlier level


def doubtful(*passages):
    """-0.8 within the passages, -3 outside: nowhere near a threshold of 1."""
    return lambda pts: -0.8 if any(start <= pts < end for start, end in passages) else -3.0


def test_a_passage_that_stands_out_from_its_own_track_is_flagged():
    found = judge(rise=1.2)
    changes = feed(found, doubtful((20, 28)), 0, 45)
    (segment,) = closed(changes)
    assert 18.5 < segment.started < 21
    assert 27 < segment.ended < 31
    assert segment.peak >= 1.0  # on the threshold's scale
    assert found.state is State.CLEAR
    assert found.statistic == pytest.approx(-3.0, abs=0.1)


def test_without_a_rise_in_the_operating_point_only_the_level_counts():
    assert closed(feed(judge(), doubtful((20, 28)), 0, 45)) == []


def test_half_a_rise_leaves_the_statistic_as_it_is():
    with_rise, without = judge(rise=5.0), judge()
    for found in (with_rise, without):
        feed(found, doubtful((20, 28)), 0, 27)
    assert with_rise.statistic == without.statistic


def test_a_track_that_always_was_like_this_does_not_rise():
    found = judge(rise=1.2)
    assert kinds(feed(found, lambda _: -0.8, 0, 90)) == ["state"]


def test_a_gap_takes_the_earlier_level_with_it():
    found = judge(rise=1.2)
    feed(found, real, 0, 20)
    assert closed(feed(found, lambda _: -0.8, 30, 60)) == []
    assert found.state is State.CLEAR


# Another operating point


def point(threshold, rise=None):
    return OperatingPoint("other", threshold, "of this test", rise)


def test_another_operating_point_ends_the_segment_under_way():
    found = judge(threshold=1.0)
    feed(found, fake, 0, 6)
    assert found.state is State.FLAGGED
    changes = found.retune(5.9, point(2.5))
    (segment,) = closed(changes)
    assert (segment.ended, changes[0].reason) == (5.8, "operating point changed")
    assert changes[0].point.threshold == 1.0, "one judges it: that of its opening"
    assert (found.state, found.reason) == (State.INCONCLUSIVE, "operating point changed")
    assert [change.point.threshold for change in changes if change.kind == "state"] == [2.5]


def test_what_stands_above_the_new_threshold_is_flagged_again_and_never_clear_in_between():
    found = judge(threshold=1.0)
    feed(found, fake, 0, 6)
    changes = found.retune(5.9, point(2.0)) + feed(found, fake, 6, 9)
    assert State.CLEAR not in {change.state for change in changes}
    assert [kind for kind in kinds(changes) if kind != "updated"] == ["closed", "state", "opened", "state"]
    (opened,) = [change for change in changes if change.kind == "opened"]
    assert (opened.point.threshold, opened.segment.started) == (2.0, 5.9)


def test_what_stands_below_the_new_threshold_is_clear():
    found = judge(threshold=1.0)
    feed(found, lambda pts: 1.5, 0, 20)
    assert found.state is State.FLAGGED
    changes = found.retune(20.0, point(3.0)) + feed(found, lambda pts: 1.4, 20.2, 24)
    assert "opened" not in kinds(changes)
    assert found.state is State.CLEAR


def test_a_lower_threshold_flags_what_was_clear():
    found = judge(threshold=3.0)
    feed(found, lambda pts: 1.5, 0, 10)
    assert found.state is State.CLEAR
    changes = found.retune(10.0, point(1.0)) + feed(found, lambda pts: 1.5, 10, 13)
    assert "opened" in kinds(changes)


def test_without_evidence_the_reason_stays_what_it_was_and_after_the_end_nothing_changes():
    found = judge()
    assert found.retune(0.0, point(2.0)) == []
    assert found.reason == "too little evidence"
    feed(found, fake, 0, 6)
    found.end(6.0, "face gone")
    assert found.retune(6.0, point(0.5)) == []
    assert found.reason == "face gone"
