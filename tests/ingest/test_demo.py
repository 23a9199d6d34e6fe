"""The made stream: the same bytes for the same seed, one forged passage where the truth says."""

import itertools

import cv2
import numpy as np
import pytest

from streamguard.errors import SourceRefused
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.demo import FORGED, FPS, PASS, DemoConnection, DemoSource, truth
from streamguard.pixels import rgb_of


def shown(uri, count=None):
    with DemoSource(uri).open(1) as connection:
        return connection.info, list(itertools.islice(connection, count))


def test_the_stream_is_what_it_says():
    info, frames = shown("demo:?seed=2&duration=2&pace=0")
    assert (info.width, info.height, info.fps, info.codec, info.duration) == (960, 540, 25, "h264", 2.0)
    assert len(frames) == 50
    assert [f.pts for f in frames] == pytest.approx([i / 25 for i in range(50)])
    assert not any(f.damaged for f in frames)
    assert frames[0].picture.y.shape == (540, 960)


def test_one_seed_gives_the_same_bytes_and_another_gives_others():
    first, second, other = (shown(f"demo:?seed={seed}&pace=0", 5)[1] for seed in (4, 4, 5))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.picture.y, b.picture.y)
        assert np.array_equal(a.picture.u, b.picture.u)
    assert not np.array_equal(first[0].picture.y, other[0].picture.y)


def test_the_camera_moves_smoothly():
    _, frames = shown("demo:?seed=1&pace=0", 75)
    small = [cv2.resize(f.picture.y, (240, 135), interpolation=cv2.INTER_AREA).astype(np.float32) for f in frames]
    steps = [cv2.phaseCorrelate(a, b)[0] for a, b in itertools.pairwise(small)]
    lengths = np.hypot(*np.array(steps).T) * 4
    assert lengths.max() < 6, "pixels a frame"
    assert lengths.mean() > 0.1


@pytest.mark.parametrize("seed", range(20))
def test_the_truth_covers_everything_with_one_forged_passage_a_minute(seed):
    passages = truth(seed, 180.0)
    assert passages[0]["start"] == 0.0
    assert passages[-1]["end"] == 180.0
    assert all(a["end"] == b["start"] for a, b in itertools.pairwise(passages))
    forged = [p for p in passages if p["forged"]]
    assert len(forged) == 3
    for minute, passage in enumerate(forged):
        start = passage["start"] - minute * PASS
        assert 10.0 <= start <= 44.0
        assert passage["end"] - passage["start"] == pytest.approx(FORGED)
        assert passage["start"] * FPS == pytest.approx(round(passage["start"] * FPS))


def test_the_truth_is_cut_with_the_stream():
    start = truth(1, PASS)[1]["start"]
    assert truth(1, 5.0) == [{"start": 0.0, "end": 5.0, "forged": False}]
    assert truth(1, start + 1)[-1] == {"start": start, "end": start + 1, "forged": True}
    assert truth(1, start) == [{"start": 0.0, "end": start, "forged": False}]


def test_seeds_differ_in_when_they_forge():
    assert len({truth(seed, PASS)[1]["start"] for seed in range(20)}) > 15


def test_the_face_is_forged_where_the_truth_says():
    """The camera moves little between two frames: what changes in the face beyond that is the forgery."""
    seed = min(range(50), key=lambda seed: truth(seed, PASS)[1]["start"])
    start = round(truth(seed, PASS)[1]["start"] * FPS)
    _, frames = shown(f"demo:?seed={seed}&pace=0", start + 3)
    last = [rgb_of(f.picture).astype(np.float32) for f in frames[start - 3 :]]
    face = (slice(130, 340), slice(360, 560))
    changes = [float(np.abs(b[face] - a[face]).mean()) for a, b in itertools.pairwise(last)]
    onset = changes.pop(2)  # between the last untouched frame and the first forged one
    assert onset > 2 * max(changes)


def test_pace_shows_frames_when_they_are_due():
    now = [100.0]
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        now[0] += seconds

    settings = DemoSource("demo:?duration=0.4").settings
    with DemoConnection(
        settings, "demo:", stream="demo", session=1, options=SourceOptions(), monotonic=lambda: now[0], sleep=sleep
    ) as connection:
        for frame in connection:
            assert now[0] == pytest.approx(100.0 + frame.pts)
            now[0] += 0.01  # the taker's own work is not waited for again
    assert waits == pytest.approx([0.03] * 9)


def test_without_pace_nobody_waits():
    def sleep(seconds):
        raise AssertionError(f"slept {seconds} s")

    settings = DemoSource("demo:?duration=0.2&pace=0").settings
    with DemoConnection(
        settings, "demo:", stream="demo", session=1, options=SourceOptions(), sleep=sleep
    ) as connection:
        assert len(list(connection)) == 5


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("demo:?sed=1", "unknown key 'sed'"),
        ("demo:?seed=x", "seed is 'x'"),
        ("demo:?seed=-1", "seed is '-1'"),
        ("demo:?seed=", "seed is ''"),
        ("demo:?duration=0", "duration is '0'"),
        ("demo:?duration=nan", "duration is 'nan'"),
        ("demo:?duration=inf", "duration is 'inf'"),
        ("demo:?pace=2", "pace is '2'"),
        ("demo://1", "unknown form"),
        ("demo:seed=1", "unknown form"),
    ],
)
def test_what_is_not_known_is_refused_by_name(uri, words):
    with pytest.raises(SourceRefused, match=words.replace("?", r"\?")):
        DemoSource(uri)


def test_defaults():
    settings = DemoSource("demo:").settings
    assert (settings.seed, settings.duration, settings.pace) == (1, 60.0, True)
