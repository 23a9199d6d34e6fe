"""What a commit has to write of open segments, and how little waits for it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.delivery.markers import Markers


def committed(markers: Markers) -> dict[str, str | None]:
    handed = dict(markers.hand_over())
    markers.written()
    return handed


def test_each_segment_leaves_its_last_event() -> None:
    markers = Markers()
    for name, body in (("a", "a0"), ("b", "b0"), ("a", "a1")):
        assert markers.note(name, body)
    assert committed(markers) == {"a": "a1", "b": "b0"}
    assert committed(markers) == {}
    markers.note("b", None)
    assert committed(markers) == {"b": None}
    markers.note("b", "opened anew")
    assert committed(markers) == {"b": "opened anew"}


def test_what_opened_and_ended_between_two_commits_leaves_nothing() -> None:
    markers = Markers()
    markers.note("a", "a0")
    markers.note("a", None)
    assert len(markers) == 0
    assert committed(markers) == {}


def test_what_ends_while_its_opening_is_being_written_is_deleted_then() -> None:
    markers = Markers()
    markers.note("a", "a0")
    assert markers.hand_over() == {"a": "a0"}
    markers.note("a", None)
    markers.written()
    assert committed(markers) == {"a": None}


def test_a_commit_that_failed_is_made_up_for_with_what_is_newer() -> None:
    markers = Markers()
    for name in ("stays", "goes on", "ends"):
        markers.note(name, "old")
    markers.hand_over()
    markers.note("goes on", "new")
    markers.note("ends", None)
    markers.failed()
    assert committed(markers) == {"stays": "old", "goes on": "new"}


def test_what_the_disk_knew_before_is_deleted_there_however_often_it_fails() -> None:
    markers = Markers(["earlier"])
    markers.note("earlier", None)
    for _ in range(3):
        assert markers.hand_over() == {"earlier": None}
        markers.failed()
    assert committed(markers) == {"earlier": None}
    assert committed(markers) == {}


def test_a_disk_that_takes_nothing_for_long_costs_no_memory() -> None:
    markers = Markers(bound=100)
    for number in range(10_000):
        assert markers.note(f"s{number}", "opened")
        assert markers.note(f"s{number}", "updated")
        if number % 7 == 0:
            markers.hand_over()
            markers.failed()
        assert markers.note(f"s{number}", None)
    assert len(markers) == 0


def test_where_there_is_no_room_a_new_segment_is_not_marked_and_those_that_are_stay_so() -> None:
    markers = Markers(["kept"], bound=3)
    assert markers.note("a", "a0")
    assert markers.note("b", "b0")
    assert not markers.note("c", "c0")
    assert markers.note("a", "a1"), "it has its place"
    assert markers.note("kept", None)
    assert markers.note("c", None), "its end asks for nothing"
    assert committed(markers) == {"a": "a1", "b": "b0", "kept": None}
    assert markers.note("d", "d0"), "there is room again"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.integers(0, 9).map(str) | st.none()),
            st.sampled_from(["written", "failed"]),
        ),
        max_size=40,
    )
)
def test_the_disk_ends_up_with_the_segments_that_are_open(steps: list[tuple[str, str | None] | str]) -> None:
    markers, disk, truth = Markers(), dict[str, str](), dict[str, str]()

    def commit(done: bool) -> None:
        handed = markers.hand_over()
        if done:
            for name, body in handed.items():
                disk.pop(name, None)
                if body is not None:
                    disk[name] = body
            markers.written()
        else:
            markers.failed()

    for step in steps:
        if isinstance(step, str):
            commit(step == "written")
            continue
        name, body = step
        markers.note(name, body)
        truth.pop(name, None)
        if body is not None:
            truth[name] = body
    commit(True)
    assert disk == truth
