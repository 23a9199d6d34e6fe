"""Gathering, step by step: what is taken when, what is complete when, and what is left out."""

from __future__ import annotations

import dataclasses

import pytest

from streamguard.delivery import gathering
from streamguard.delivery.gathering import Collector, Span
from streamguard.frames import Look
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.container import FileSource
from tests.exhibits import FACTS, SPAN, TIMELINE, exhibits_of, logit, look_at, segment, shown
from tests.media import patterns, write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight seconds, a keyframe a second."""
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", patterns(200), gop=25, audio=True)


def times(packets, *, video=True):
    return [packet.seconds for packet in packets if packet.video is video]


def test_a_segment_with_what_came_before_and_after(film):
    (exhibit,) = exhibits_of(film)
    assert exhibit.cut is None
    assert exhibit.segment == segment(2.0, 4.0)
    assert times(exhibit.packets)[0] == pytest.approx(1.0)
    assert 5.0 <= times(exhibit.packets)[-1] <= 5.2
    assert times(exhibit.packets, video=False)[0] == pytest.approx(1.0, abs=0.1)
    assert [score.pts for score in exhibit.scores] == pytest.approx([n / 5 for n in range(5, 26)])
    assert [score.logit for score in exhibit.scores] == pytest.approx([logit(n / 5) for n in range(5, 26)])
    assert exhibit.earlier == [(n / 5, logit(n / 5)) for n in range(5)]
    assert exhibit.gaps() == []
    assert exhibit.still is not None
    assert exhibit.still.pts == pytest.approx(3.0)


def test_a_clip_begins_no_earlier_than_its_keyframe_asks(film):
    (exhibit,) = exhibits_of(film, start=2.5)
    assert times(exhibit.packets)[0] == pytest.approx(1.0), "1.5 s lies in the group that begins at 1 s"


def test_the_end_of_the_film_completes_what_is_open(film):
    (exhibit,) = exhibits_of(film, start=5.0, end=None)
    assert exhibit.cut == "end of stream"
    assert exhibit.segment.ended is None
    assert times(exhibit.packets)[-1] == pytest.approx(7.96)


def test_a_long_segment_is_cut_and_its_events_still_name_it(film):
    collector = Collector(Span(1.0, 1.0, 2.0), lambda: FACTS)
    given = list(shown(film, collector, 1.0, 6.0))
    (exhibit,) = [exhibit for item in given if isinstance(item, list) for exhibit in item]
    assert exhibit.cut == "longest"
    assert 3.0 <= times(exhibit.packets)[-1] <= 3.2
    assert [item for item in given if isinstance(item, bool)] == [True, True], "opened and closed"


def test_too_large_a_clip_is_cut(film, monkeypatch):
    (whole,) = exhibits_of(film)
    monkeypatch.setattr(gathering, "LARGEST", sum(packet.data.size for packet in whole.packets) // 2)
    (exhibit,) = exhibits_of(film)
    assert exhibit.cut == "size"
    assert 0 < len(exhibit.packets) < len(whole.packets)
    assert times(exhibit.packets)[0] == pytest.approx(1.0)


def test_a_clip_ends_where_packets_are_missing(film):
    collector, given = Collector(SPAN, lambda: FACTS), []
    with FileSource(film, options=SourceOptions(keep_seconds=SPAN.keep)).open(1) as connection:
        collector.begin(connection.recording)
        for frame in connection:
            if frame.index % 5 == 0:
                collector.looked(frame, [look_at(frame)])
            if frame.index == 75:
                collector.opened("a", segment(2.0), TIMELINE)
            if frame.index == 80:
                connection.recording._pictures += 3  # as if the decoder had seen three that were not kept
            given += collector.advance(frame)
    (exhibit,) = given
    assert exhibit.cut == "packets lost"
    assert times(exhibit.packets)[-1] < 3.4
    assert max(score.pts for score in exhibit.scores) <= times(exhibit.packets)[-1]


def test_without_a_recording_there_are_still_and_scores(film):
    collector, given = Collector(SPAN, lambda: FACTS), []
    with FileSource(film).open(1) as connection:
        collector.begin(None)
        for frame in connection:
            collector.looked(frame, [look_at(frame)])
            if frame.index == 75:
                collector.opened("a", segment(2.0), TIMELINE)
            if frame.index == 110:
                collector.changed("a", segment(2.0, 4.0))
            given += collector.advance(frame)
    (exhibit,) = given
    assert (exhibit.cut, exhibit.media, exhibit.packets) == ("no packets", None, [])
    assert exhibit.scores
    assert exhibit.still is not None


def test_gaps_have_a_reason(film):
    collector, given = Collector(SPAN, lambda: FACTS), []
    with FileSource(film, options=SourceOptions(keep_seconds=SPAN.keep)).open(1) as connection:
        collector.begin(connection.recording)
        for frame in connection:
            if frame.index == 75:
                collector.opened("a", segment(2.0), TIMELINE)
            if frame.index == 90:
                given += collector.outage("frozen picture")
            if frame.index == 130:
                given += collector.outage(None)
            if not 90 <= frame.index < 130 and not 150 <= frame.index < 180:
                collector.looked(frame, [look_at(frame)])
                given += collector.advance(frame)
        given += collector.end("no frames")
    (exhibit,) = given
    assert [(round(gap.start, 2), round(gap.end, 2), gap.reason) for gap in exhibit.gaps()] == [
        (3.56, 5.2, "frozen picture"),
        (5.96, 7.2, "not scored"),
    ]
    assert exhibit.cut == "no frames"


def test_an_outage_completes_what_is_closed(film):
    collector = Collector(SPAN, lambda: FACTS)
    with FileSource(film, options=SourceOptions(keep_seconds=SPAN.keep)).open(1) as connection:
        collector.begin(connection.recording)
        for frame in connection:
            collector.looked(frame, [look_at(frame)])
            if frame.index == 75:
                collector.opened("a", segment(2.0), TIMELINE)
                collector.opened("b", segment(2.5), TIMELINE)
                collector.changed("a", segment(2.0, 3.0))
            assert collector.advance(frame) == []
            if frame.index == 80:
                break
        (exhibit,) = collector.outage("damaged frames")
    assert (exhibit.name, exhibit.cut) == ("a", "damaged frames")


def test_other_faces_are_another_matter(film):
    collector, given = Collector(SPAN, lambda: FACTS), []
    with FileSource(film, options=SourceOptions(keep_seconds=SPAN.keep)).open(1) as connection:
        collector.begin(connection.recording)
        for frame in connection:
            look = look_at(frame)
            other = Look(2, look.box, look.crop, 9.0)
            collector.looked(frame, [other, look])
            if frame.index == 75:
                collector.opened("a", segment(2.0), TIMELINE)
            if frame.index == 110:
                collector.changed("a", segment(2.0, 4.0))
            given += collector.advance(frame)
    (exhibit,) = given
    assert max(score.logit for score in exhibit.scores) == pytest.approx(3.0)


def test_a_score_that_is_none_is_not_kept(film):
    collector = Collector(SPAN, lambda: FACTS)
    with FileSource(film).open(1) as connection:
        frame = next(iter(connection))
    collector.begin(None)
    collector.looked(frame, [dataclasses.replace(look_at(frame), logit=float("nan"))])
    assert collector.opened("a", segment(0.0), TIMELINE)
    (exhibit,) = collector.end("over")
    assert exhibit.scores == []
    assert exhibit.still is None


def test_a_segment_of_no_frame_has_no_evidence():
    collector = Collector(SPAN, lambda: FACTS)
    collector.begin(None)
    assert not collector.opened("a", segment(2.0), TIMELINE)
    assert not collector.changed("a", segment(2.0, 4.0))


def test_memory_is_bounded_while_nothing_happens(film):
    collector = Collector(Span(1.0, 1.0, 5.0), lambda: FACTS)
    with FileSource(film).open(1) as connection:
        frame = next(iter(connection))
    for second in range(600):
        later = dataclasses.replace(frame, pts=float(second))
        collector.looked(later, [dataclasses.replace(look_at(frame), track=second % 3)])
        collector.advance(later)
    assert sum(len(scores) for scores in collector._scores.values()) <= 1 + gathering.REMEMBERED + 32


def test_what_is_true_of_one_segment_goes_before_what_is_true_of_the_run(film):
    collector, given = Collector(SPAN, lambda: {"operating_point": "default", "node": "studio"}), []
    with FileSource(film, options=SourceOptions(keep_seconds=SPAN.keep)).open(1) as connection:
        collector.begin(connection.recording)
        for frame in connection:
            collector.looked(frame, [look_at(frame)])
            if frame.index == 75:
                collector.opened("a", segment(2.0, 2.5), TIMELINE, {"operating_point": "by hand"})
            given += collector.advance(frame)
    (exhibit,) = given
    assert exhibit.facts == {"operating_point": "by hand", "node": "studio"}
