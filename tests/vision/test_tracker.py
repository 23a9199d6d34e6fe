"""Which face is which over time."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.frames import Box, Face
from streamguard.vision.tracker import Tracker, TrackerSettings

STEP = 0.2  # five searches a second


def face(x, y=100.0, size=80.0, confidence=0.9):
    """A face with its centre at (x, y)."""
    return Face(Box(x - size / 2, y - 0.65 * size, x + size / 2, y + 0.65 * size), confidence)


def ids(update):
    return [track.id for track, _ in update.matched]


def run(tracker, frames, start=0.0, step=STEP):
    """Feed lists of faces; the updates."""
    return [tracker.update(start + index * step, faces) for index, faces in enumerate(frames)]


def test_a_face_that_stays_is_one_track():
    updates = run(Tracker(session=3), [[face(100)]] * 10)
    assert [ids(update) for update in updates] == [[]] + [[1]] * 9
    (track, found) = updates[-1].matched[0]
    assert found == face(100)
    assert (track.session, track.started, track.updated, track.missed) == (3, 0.0, 9 * STEP, 0.0)
    assert track.box == face(100).box
    assert updates[-1].tracks == [track]


def test_a_detection_that_is_not_repeated_leaves_no_trace():
    tracker = Tracker()
    updates = run(tracker, [[face(100)], [], [face(100)], [face(100)]])
    assert [ids(update) for update in updates] == [[], [], [], [1]]
    assert updates[-1].matched[0][0].started == 2 * STEP
    assert all(update.lost == [] for update in updates)


def test_stills_confirm_at_once():
    (update,) = run(Tracker(TrackerSettings(confirm=1)), [[face(100), face(300)]])
    assert ids(update) == [1, 2]


@pytest.mark.parametrize("step", [0.04, 0.2, 0.4, 1.0])
def test_a_moving_face_is_one_track_at_any_rate(step):
    """Half a face's width a second."""
    updates = run(Tracker(), [[face(100 + 40 * step * index)] for index in range(20)], step=step)
    assert {track for update in updates for track in ids(update)} == {1}


def test_speed_is_learnt_so_that_a_fast_face_is_followed():
    """Three quarters of a width from search to search leave almost no overlap; the prediction finds it."""
    speeds = [0, 10, 25, 40, 60, 60, 60, 60]
    positions = [100.0 + sum(speeds[: index + 1]) for index in range(len(speeds))]
    updates = run(Tracker(), [[face(x)] for x in positions])
    assert {track for update in updates for track in ids(update)} == {1}


def test_a_head_that_turns_back_is_followed():
    """The prediction shoots over by more than a width; the last box still overlaps."""
    updates = run(Tracker(), [[face(x)] for x in (100, 140, 180, 220, 175, 135)])
    assert {track for update in updates for track in ids(update)} == {1}


@pytest.mark.parametrize("step", [0.04, 0.2])
def test_prediction_between_searches(step):
    tracker = Tracker()
    run(tracker, [[face(100 + 100 * step * index)] for index in range(11)], step=step)
    last = 10 * step
    (track,) = tracker.predict(last + 0.1)
    assert track.box.centre[0] == pytest.approx(100 + 100 * (last + 0.1), abs=0.5)
    assert track.missed == pytest.approx(0.1)
    (earlier,) = tracker.predict(last - 0.1)
    assert earlier.box.centre[0] == pytest.approx(100 + 100 * (last - 0.1), abs=0.5)
    assert earlier.missed == 0


def test_a_motion_is_believed_in_for_half_a_second():
    tracker = Tracker()
    run(tracker, [[face(100 + 20 * index)] for index in range(6)])
    (far,) = tracker.predict(1.0 + 100)
    assert far.box.centre[0] == pytest.approx(200 + 100 * 0.5, abs=0.5)


def test_prediction_changes_nothing():
    tracker = Tracker()
    run(tracker, [[face(100 + 20 * index)] for index in range(6)])
    before = tracker.predict(1.1)
    tracker.predict(5.0)
    assert tracker.predict(1.1) == before


def test_a_face_hidden_for_less_than_the_memory_keeps_its_track():
    updates = run(Tracker(), [[face(100)]] * 3 + [[]] * 5 + [[face(105)]])
    assert ids(updates[-1]) == [1]
    missed = [update.tracks[0].missed for update in updates[3:8]]
    assert missed == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(update.lost == [] for update in updates)


def test_a_face_gone_for_longer_ends_its_track_once():
    updates = run(Tracker(), [[face(100)]] * 3 + [[]] * 8 + [[face(100)]] * 2)
    lost = [(index, [track.id for track in update.lost]) for index, update in enumerate(updates) if update.lost]
    assert lost == [(9, [1])]  # last seen at 0.4 s, the search at 1.8 s is the first beyond 1.6 s
    assert updates[9].tracks == []
    assert ids(updates[-1]) == [2]


def test_rare_searches_do_not_end_tracks():
    """A search each 1.5 s is beyond the memory, but none in between failed to find the face."""
    updates = run(Tracker(), [[face(100)]] * 5, step=1.5)
    assert [ids(update) for update in updates] == [[], [1], [1], [1], [1]]


def test_no_track_is_resumed_over_a_hole():
    tracker = Tracker()
    run(tracker, [[face(100)]] * 3)
    update = tracker.update(2.5, [face(100)])
    assert [track.id for track in update.lost] == [1]
    assert update.matched == []
    assert ids(tracker.update(2.7, [face(100)])) == [2]


def test_a_jump_takes_a_new_id():
    """A cut: the face is elsewhere, or of another size in the same place."""
    for after in (face(400), face(100, size=300), face(100, size=30)):
        updates = run(Tracker(), [[face(100)]] * 5 + [[after]] * 3)
        assert ids(updates[4]) == [1]
        assert [ids(update) for update in updates[5:]] == [[], [2], [2]]


def test_two_faces_keep_their_ids_while_they_pass():
    """Side by side, then apart in height as they cross: overlap with the predictions tells them apart."""
    left = [face(100 + 15 * index, y=100) for index in range(20)]
    right = [face(385 - 15 * index, y=150) for index in range(20)]
    updates = run(Tracker(), [[a, b] for a, b in zip(left, right, strict=True)])
    for update in updates[1:]:
        matched = {track.id: found for track, found in update.matched}
        assert matched[1] in left
        assert matched[2] in right


def test_each_face_goes_to_the_track_it_overlaps_most():
    tracker = Tracker()
    run(tracker, [[face(100), face(170)]] * 2)
    update = tracker.update(2 * STEP, [face(160), face(90)])
    assert {track.id: found for track, found in update.matched} == {1: face(90), 2: face(160)}


def test_the_order_of_faces_does_not_matter():
    rng = random.Random(5)
    scenes = [[face(100 + 3 * index), face(300 - 3 * index), face(500, confidence=0.7)] for index in range(10)]
    straight = run(Tracker(), scenes)
    shuffled = run(Tracker(), [rng.sample(scene, 3) for scene in scenes])
    assert [{f: t.id for t, f in u.matched} for u in straight] == [{f: t.id for t, f in u.matched} for u in shuffled]


def test_a_weak_face_continues_a_track_and_opens_none():
    updates = run(Tracker(), [[face(100)]] * 2 + [[face(100, confidence=0.3), face(400, confidence=0.3)]] * 5)
    assert [ids(update) for update in updates[2:]] == [[1]] * 5
    assert updates[-1].matched[0][1].confidence == 0.3
    assert updates[-1].tracks[0].confidence == 0.3


def test_a_weak_face_does_not_confirm():
    updates = run(Tracker(), [[face(100)]] + [[face(100, confidence=0.3)]] * 3)
    assert all(update.tracks == [] for update in updates)


def test_a_weak_face_never_takes_a_track_from_a_confident_one():
    tracker = Tracker()
    run(tracker, [[face(100)]] * 2)
    update = tracker.update(0.4, [face(100, confidence=0.3), face(120, confidence=0.9)])
    assert [(track.id, found) for track, found in update.matched] == [(1, face(120, confidence=0.9))]


def test_boxes_within_one_another_are_one_face():
    inner, outer = face(100, size=50, confidence=0.6), face(100, size=90, confidence=0.8)
    updates = run(Tracker(), [[inner, outer]] * 4)
    assert [track for update in updates for track in ids(update)] == [1, 1, 1]
    assert updates[-1].matched[0][1] == outer


def test_neighbours_that_touch_are_two_faces():
    updates = run(Tracker(), [[face(100), face(150)]] * 3)
    assert ids(updates[-1]) == [1, 2]


def test_a_crowd_is_bounded_and_counted():
    tracker = Tracker(TrackerSettings(most=4))
    crowd = [face(100 * index, confidence=0.9 - 0.01 * index) for index in range(10)]
    updates = run(tracker, [crowd] * 3)
    assert [update.refused for update in updates] == [6, 6, 6]
    assert sorted(ids(updates[-1])) == [1, 2, 3, 4]
    assert {found for _, found in updates[-1].matched} == set(crowd[:4])  # the most confident ones


def test_the_end_of_a_session_ends_all_tracks():
    tracker = Tracker()
    run(tracker, [[face(100), face(300)]] * 2 + [[face(100), face(300), face(500)]])
    assert [track.id for track in tracker.end()] == [1, 2]  # the third was never confirmed
    assert tracker.end() == []
    assert tracker.predict(1.0) == []


def test_sessions_count_for_themselves():
    assert [ids(run(Tracker(session=session), [[face(100)]] * 2)[-1]) for session in (1, 2)] == [[1], [1]]


def test_time_that_runs_backwards_stands_still():
    tracker = Tracker()
    run(tracker, [[face(100)], [face(110)], [face(120)]])
    update = tracker.update(0.1, [face(130)])
    assert ids(update) == [1]
    assert update.matched[0][0].updated == pytest.approx(0.4)
    assert math.isfinite(tracker.predict(1.0)[0].box.x1)


def test_an_empty_stream():
    assert Tracker().update(0.0, []) == ([], [], [], 0)


def test_settings_out_of_range():
    for wrong in ({"memory": -1.0}, {"smoothing": 0.0}, {"overlap": math.nan}, {"hole": math.inf}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrackerSettings(**wrong)


SCENES = st.lists(
    st.tuples(
        st.floats(0.01, 3.0),
        st.lists(
            st.builds(
                face,
                st.floats(0, 600),
                st.floats(0, 400),
                st.floats(10, 300),
                st.floats(0.05, 1.0),
            ),
            max_size=6,
        ),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(scenes=SCENES, confirm=st.integers(1, 3))
def test_what_holds_for_any_scene(scenes, confirm):
    """Ids rise, are never used twice, end once; a face has one track; nothing is found after its end."""
    tracker = Tracker(TrackerSettings(confirm=confirm, most=8))
    now, alive, ended, strong = 0.0, {}, set(), 0
    for step, faces in scenes:
        now += step
        strong += sum(found.confidence >= 0.5 for found in faces)
        update = tracker.update(now, faces)
        matched = [track.id for track, _ in update.matched]
        shown = [track.id for track in update.tracks]
        gone = {track.id for track in update.lost}

        assert len(matched) == len(set(matched))
        assert len({id(found) for _, found in update.matched}) == len(matched)
        assert shown == sorted(set(shown))
        assert set(matched) <= set(shown)
        assert not gone & set(shown)
        assert not ended & (set(shown) | gone)
        assert gone <= set(alive)
        assert set(alive) <= set(shown) | gone
        assert all(track.updated == now == track.updated + track.missed for track, _ in update.matched)
        assert len(shown) <= 8
        ended |= gone
        alive = {track.id: track.started for track in update.tracks} | {}
        assert all(track.started <= track.updated <= now for track in update.tracks)
    assert len(ended | set(alive)) <= strong
