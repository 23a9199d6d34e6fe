"""One stream's chain, step by step: no thread, no model, the scores given by hand."""

from itertools import islice

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamguard.analysis import MOST_FACES, AnalysisSettings, StreamAnalysis
from streamguard.decision.calibration import OperatingPoint
from streamguard.frames import Box, Face, Frame, State
from streamguard.ingest.connection import StreamInfo
from streamguard.ingest.mailbox import SessionStarted
from streamguard.metrics import Metrics
from streamguard.pixels import picture_of_rgb
from streamguard.vision.classifier import FaceInput
from streamguard.vision.sampler import Pace, SamplerSettings, unhurried

POINT = OperatingPoint("default", 1.5, "of this test")
NOISE = picture_of_rgb(np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8))
FACE = Face(Box(100, 80, 200, 210), 0.9)
SMALL = Face(Box(400, 80, 430, 120), 0.9)


def info(*, still=False):
    return StreamInfo(width=640, height=360, fps=25.0, codec="h264", duration=None, audio=False, still=still)


def frame(pts, session=1):
    return Frame("cam", session, round(pts * 25), pts, 1000.0 + pts, "file", NOISE)


class Driver:
    """Feeds an analysis five frames a second."""

    def __init__(self, *, keep=True, still=False, pace=unhurried, **sampling):
        self.metrics = Metrics(CollectorRegistry())
        settings = AnalysisSettings(FaceInput(64, 0.1), POINT, sampler=SamplerSettings(**sampling))
        self.analysis = StreamAnalysis("cam", settings, self.metrics, keep=keep, pace=pace)
        self.analysis.begin(SessionStarted(1, info(still=still)))
        self.changes = []
        self.pts = 0.0

    def step(self, faces, logit=None):
        shown = frame(self.pts)
        self.changes += self.analysis.follow(shown, faces)
        crops, changes = self.analysis.choose(shown)
        scores = [] if logit is None else [(crop.track, logit) for crop in crops]
        self.changes += changes + self.analysis.scored(shown, scores)
        self.pts += 0.2
        return crops

    def steps(self, seconds, faces, logit):
        """How many faces were classified."""
        return sum(len(self.step(faces, logit)) for _ in range(round(seconds * 5)))

    def between(self, after=0.1):
        """Crops of a frame so long after the last step."""
        crops, changes = self.analysis.between(frame(self.pts - 0.2 + after))
        self.changes += changes
        return crops

    def kinds(self):
        return [change.change.kind for change in self.changes if change.change.kind != "updated"]

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{name}", {"stream": "cam", **labels})


def test_a_forged_passage_becomes_one_segment():
    driver = Driver()
    driver.steps(6, [FACE], -3.0)
    driver.steps(8, [FACE], 4.0)
    driver.steps(8, [FACE], -3.0)
    driver.changes += driver.analysis.end("end of stream")
    assert [kind for kind in driver.kinds() if kind != "state"] == ["opened", "closed"]
    (outcome,) = driver.analysis.outcomes
    assert outcome.judged.state is State.FLAGGED
    (segment,) = outcome.segments
    assert 5.5 < segment.started < 8.5
    assert 13 < segment.ended < 17
    assert outcome.best == 4.0
    assert driver.value("segments_total", state="flagged") == 1
    assert driver.value("faces_scored_total") == outcome.judged.frames > 60


def test_changes_carry_the_face_and_the_wall_clock():
    driver = Driver()
    driver.steps(3, [FACE], -3.0)
    (change,) = driver.changes
    assert (change.session, change.change.state) == (1, State.CLEAR)
    assert change.sighting.bbox == FACE.box
    assert change.timeline.wall(2.0) == pytest.approx(1002.0)


def test_a_small_face_is_skipped_by_name_and_never_clear():
    driver = Driver()
    driver.steps(5, [SMALL], -3.0)
    driver.changes += driver.analysis.end("end of stream")
    assert driver.value("faces_skipped_total", reason="too small") > 20
    assert {change.change.state for change in driver.changes} <= {State.INCONCLUSIVE}
    snapshot_reason = driver.analysis.outcomes[0].judged.reason
    assert snapshot_reason == "too small"


def test_the_snapshot_says_what_holds_now():
    driver = Driver()
    assert (driver.analysis.snapshot().state, driver.analysis.snapshot().reason) == (State.INCONCLUSIVE, "no face")
    driver.steps(3, [FACE], -3.0)
    snapshot = driver.analysis.snapshot()
    assert snapshot.state is State.CLEAR
    assert [track.id for track in snapshot.tracks] == [track for track, _ in snapshot.states]
    driver.steps(4, [FACE], 4.0)
    assert driver.analysis.snapshot().state is State.FLAGGED


def test_a_face_that_goes_ends_its_track():
    driver = Driver()
    driver.steps(3, [FACE], -3.0)
    driver.steps(3, [], None)
    assert len(driver.analysis.outcomes) == 1
    assert driver.analysis.snapshot().tracks == ()


def test_live_streams_keep_no_outcomes():
    driver = Driver(keep=False)
    driver.steps(3, [FACE], -3.0)
    driver.analysis.end("end of stream")
    assert driver.analysis.outcomes == []


def test_a_new_session_starts_from_nothing():
    driver = Driver()
    driver.steps(5, [FACE], 4.0)
    driver.analysis.end("connection lost")
    driver.analysis.begin(SessionStarted(2, info()))
    assert driver.analysis.snapshot().state is State.INCONCLUSIVE
    driver.pts = 0.0
    driver.step([FACE], 4.0)
    driver.step([FACE], 4.0)
    assert driver.analysis.snapshot().state is State.INCONCLUSIVE


def test_a_still_is_scored_at_once():
    driver = Driver(still=True)
    crops = driver.step([FACE, SMALL], 2.0)
    assert [crop.picture.shape for crop in crops] == [(64, 64, 3)]
    driver.analysis.end("end of stream")
    first, second = driver.analysis.outcomes
    assert (first.best, second.best) == (2.0, None)


def test_a_crowd_is_bounded_and_counted():
    driver = Driver(still=True)
    places = ((x, y) for y in range(0, 320, 95) for x in range(0, 640, 61))
    faces = [Face(Box(x, y, x + 60, y + 75), 0.9) for x, y in islice(places, MOST_FACES + 8)]
    assert len(driver.step(faces, 0.0)) == MOST_FACES
    assert driver.value("faces_skipped_total", reason="too many faces") == 8


def test_a_settled_face_is_scored_less_often_and_again_more_when_a_score_disagrees():
    driver = Driver()
    driver.steps(2, [FACE], -3.0)
    assert driver.steps(2, [FACE], -3.0) == 10
    driver.steps(6, [FACE], -3.0)
    assert driver.steps(4, [FACE], -3.0) == 10, "half of the searches"
    while not driver.step([FACE], 2.0):
        pass
    assert driver.steps(1, [FACE], -3.0) == 5


def test_an_undecided_face_is_scored_between_two_searches_where_it_should_be():
    driver = Driver()
    for index in range(4):
        driver.step([Face(Box(100 + 10 * index, 80, 200 + 10 * index, 210), 0.9)], -3.0)
    (crop,) = driver.between()
    assert crop.picture.shape == (64, 64, 3)
    moved = driver.analysis.snapshot().tracks[0].box
    assert moved.x1 == pytest.approx(130)
    assert driver.value("faces_skipped_total", reason="blurred") is None


def test_between_two_searches_nobody_is_scored_who_needs_it_not():
    driver = Driver()
    assert driver.between() == [], "no face at all"
    driver.steps(3, [FACE], -3.0)
    assert driver.between() == [], "a clear one"


def test_a_place_that_is_old_is_not_believed_in():
    driver = Driver()
    driver.step([FACE], -3.0)
    driver.step([FACE], -3.0)
    assert driver.between(after=0.3) == []
    driver.step([], None)
    assert driver.between() == [], "the last search did not find it"


def test_an_unfit_face_is_not_looked_at_in_between():
    driver = Driver()
    driver.steps(1, [SMALL], None)
    before = driver.value("faces_skipped_total", reason="too small")
    assert driver.between() == []
    assert driver.value("faces_skipped_total", reason="too small") == before


def test_scores_that_come_too_seldom_are_no_judgement():
    """One picture a second, of an engine that was calibrated from two."""
    driver = Driver(lowest_hz=2.0, highest_hz=30.0)
    for _ in range(20):
        driver.step([FACE], -3.0)
        driver.pts += 0.8
    assert {change.change.state for change in driver.changes} <= {State.INCONCLUSIVE}
    assert (driver.analysis.snapshot().state, driver.analysis.snapshot().reason) == (State.INCONCLUSIVE, "rate")
    assert driver.value("faces_skipped_total", reason="rate") >= 17
    driver.changes += driver.analysis.end("end of stream")
    assert driver.analysis.outcomes[0].judged.reason == "rate"


def test_looking_in_between_does_not_help_a_stream_that_is_searched_too_seldom():
    driver = Driver(lowest_hz=2.0, highest_hz=30.0)
    for _ in range(20):
        driver.step([FACE], -3.0)
        driver.pts += 0.8
        driver.between(after=-0.68)
    assert driver.analysis.snapshot().reason == "rate"


def test_a_stream_that_becomes_too_slow_is_inconclusive():
    driver = Driver(lowest_hz=2.0, highest_hz=30.0)
    driver.steps(3, [FACE], -3.0)
    assert driver.analysis.snapshot().state is State.CLEAR
    for _ in range(10):
        driver.step([FACE], -3.0)
        driver.pts += 0.8
    assert (driver.analysis.snapshot().state, driver.analysis.snapshot().reason) == (State.INCONCLUSIVE, "rate")
    driver.steps(4, [FACE], -3.0)
    assert driver.analysis.snapshot().state is State.CLEAR


def test_an_overload_is_shown_and_obeyed():
    driver = Driver(pace=lambda: Pace("classification rate", lowest=True), lowest_hz=2.0, highest_hz=30.0)
    assert driver.steps(10, [FACE], -3.0) <= 21
    assert driver.analysis.snapshot().overload == "classification rate"
    assert driver.analysis.snapshot().state is State.CLEAR
    assert Driver().analysis.snapshot().overload is None


def test_another_operating_point_is_that_of_every_track_and_of_those_to_come():
    driver = Driver()
    driver.steps(6, [FACE], 3.0)
    assert driver.analysis.snapshot().state is State.FLAGGED
    changes = driver.analysis.retune(OperatingPoint("high", 3.5, "of this test"))
    assert [change.change.kind for change in changes] == ["closed", "state"]
    assert [change.change.point.name for change in changes] == ["default", "high"]
    assert driver.value("segments_total", state="flagged") == 1
    assert driver.analysis.point.name == "high"
    driver.steps(6, [FACE, Face(Box(400, 80, 500, 210), 0.9)], 3.0)
    assert driver.analysis.snapshot().state is State.CLEAR
    assert driver.kinds().count("opened") == 1
