"""What goes when there is no room: the policy, step by step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamguard.delivery.backlog import Backlog, Rank, Row, rank_of
from streamguard.delivery.events import event_schema


def row(sequence: int, rank: Rank = Rank.KEPT) -> Row:
    return Row(sequence, 0.0, rank, "{}")


def numbers(backlog: Backlog) -> list[int]:
    return [row.sequence for row in backlog.after(0)]


def test_every_type_of_event_has_its_rank() -> None:
    ranks = {kind: rank_of(kind) for kind in event_schema()["properties"]["type"]["enum"]}
    assert {kind.removeprefix("streamguard.").removesuffix(".v1"): rank for kind, rank in ranks.items()} == {
        "segment.opened": Rank.KEPT,
        "segment.updated": Rank.UPDATED,
        "segment.closed": Rank.KEPT,
        "track.state": Rank.STATE,
        "stream.up": Rank.STREAM,
        "stream.down": Rank.STREAM,
        "stream.degraded": Rank.STREAM,
    }


def test_updates_go_first_and_the_oldest_of_them() -> None:
    backlog = Backlog(4)
    for sequence, rank in enumerate((Rank.STATE, Rank.UPDATED, Rank.KEPT, Rank.UPDATED), 1):
        assert backlog.add(row(sequence, rank)) is None
    gone = [backlog.add(row(sequence, Rank.KEPT)) for sequence in (5, 6, 7)]
    assert [left.sequence for left in gone if left] == [2, 4, 1]
    assert numbers(backlog) == [3, 5, 6, 7]


def test_what_is_worth_less_than_all_that_is_there_does_not_come_in() -> None:
    backlog = Backlog(2)
    backlog.add(row(1, Rank.STREAM))
    backlog.add(row(2, Rank.KEPT))
    update = row(3, Rank.UPDATED)
    assert backlog.add(update) is update
    assert backlog.add(row(4, Rank.STREAM)) == row(1, Rank.STREAM)
    assert numbers(backlog) == [2, 4]


def test_opened_and_closed_segments_are_never_pushed_out() -> None:
    backlog = Backlog(2)
    backlog.add(row(1))
    backlog.add(row(2))
    late = row(3)
    assert backlog.add(late) is late
    assert numbers(backlog) == [1, 2]


def test_rows_that_are_being_written_stay() -> None:
    backlog = Backlog(2)
    backlog.add(row(1, Rank.UPDATED))
    backlog.add(row(2, Rank.UPDATED))
    assert backlog.add(row(3), kept=1) == row(2, Rank.UPDATED)
    assert backlog.add(row(4), kept=3) == row(4)
    assert numbers(backlog) == [1, 3]


def test_parts_of_it() -> None:
    backlog = Backlog(10)
    for sequence in (2, 3, 5, 8, 9):
        backlog.add(row(sequence))
    assert [row.sequence for row in backlog.after(3)] == [5, 8, 9]
    assert [row.sequence for row in backlog.after(2, limit=2)] == [3, 5]
    assert [row.sequence for row in backlog.after(2, limit=9, through=7)] == [3, 5]
    backlog.forget(through=5)
    assert numbers(backlog) == [8, 9]
    assert len(backlog) == 2


@given(
    ranks=st.lists(st.sampled_from([rank for rank in Rank if rank is not Rank.DEAD]), max_size=60),
    bound=st.integers(1, 10),
)
def test_order_and_bound_hold_whatever_comes(ranks: list[Rank], bound: int) -> None:
    backlog = Backlog(bound)
    rows = [row(sequence, rank) for sequence, rank in enumerate(ranks, 1)]
    gone = [left for one in rows if (left := backlog.add(one)) is not None]
    kept = backlog.after(0)
    assert len(kept) == min(bound, len(rows))
    assert kept == sorted(kept, key=lambda row: row.sequence)
    assert sorted(kept + gone, key=lambda row: row.sequence) == rows
    # An opened or closed segment is refused only where there is nothing else to push out.
    if any(left.rank is Rank.KEPT for left in gone):
        assert all(row.rank is Rank.KEPT for row in kept)
