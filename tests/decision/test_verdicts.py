"""What is said of a stream, a video, an image."""

import pytest

from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.segments import Judged, stream_state
from streamguard.decision.verdicts import image_verdict, verdict
from streamguard.frames import State, sigmoid

POINT = OperatingPoint("default", 1.0, "at most 1 % of real minutes")


def judged(state, peak=None, reason=None, track=1):
    return Judged(track, State(state), reason, peak, frames=10, segments=int(state == "flagged"))


FLAGGED, CLEAR = judged("flagged", 2.5), judged("clear", -1.0)
SMALL, BLURRED = judged("inconclusive", reason="too small"), judged("inconclusive", reason="blurred")


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        ([], ("inconclusive", "no face")),
        ([SMALL], ("inconclusive", "too small")),
        ([SMALL, BLURRED, BLURRED], ("inconclusive", "blurred")),
        ([CLEAR], ("clear", None)),
        ([CLEAR, SMALL], ("clear", None)),
        ([FLAGGED, CLEAR, SMALL], ("flagged", None)),
    ],
)
def test_a_stream_from_its_tracks(tracks, expected):
    assert stream_state(tracks) == expected
    assert stream_state(reversed(tracks)) == expected


@pytest.mark.parametrize("tracks", [[], [CLEAR], [FLAGGED], [SMALL]])
def test_an_outage_is_never_clear(tracks):
    assert stream_state(tracks, outage="frozen picture") == ("inconclusive", "frozen picture")


def test_a_video_has_the_score_of_its_highest_track():
    assert verdict([CLEAR, FLAGGED]) == ("flagged", None, sigmoid(2.5))
    assert verdict([CLEAR, SMALL]) == ("clear", None, sigmoid(-1.0))


def test_a_video_without_evidence_has_no_score():
    assert verdict([]) == ("inconclusive", "no face", None)
    assert verdict([SMALL]) == ("inconclusive", "too small", None)


def test_an_image_is_judged_by_its_highest_single_score():
    assert image_verdict([-2.0, 1.0], POINT) == ("flagged", None, sigmoid(1.0))
    assert image_verdict([-2.0, 0.999], POINT) == ("clear", None, sigmoid(0.999))


def test_an_image_without_a_score():
    assert image_verdict([], POINT) == ("inconclusive", "no face", None)
    assert image_verdict([], POINT, "too small") == ("inconclusive", "too small", None)
