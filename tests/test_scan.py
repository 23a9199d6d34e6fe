"""scan: a verdict a file, bad files named, one picture the same in every dress."""

import numpy as np
import pytest

from streamguard.config import ClassifierChoice, Config
from streamguard.decision.calibration import operating_point
from streamguard.frames import Box, State
from streamguard.inference.engines import engine_folders, load_engine
from streamguard.ingest.demo import photograph
from streamguard.ingest.source import open_source
from streamguard.pixels import picture_of_rgb
from streamguard.scan import expand, scan
from streamguard.vision.classifier import FaceInput
from tests.media import cut, patterns, write_sound, write_still, write_video


def verdicts(*paths):
    return list(scan(expand([str(path) for path in paths]), Config()))


def test_a_still_with_a_face_is_judged_by_its_single_score(tmp_path):
    (found,) = verdicts(write_still(tmp_path / "astronaut.png", photograph()))
    line = found.to_json()
    assert (line["kind"], line["faces"], line["error"]) == ("image", 1, None)
    assert line["state"] == ("flagged" if line["score"] >= line["threshold"] else "clear")
    assert line["tracks"] == [{"id": 1, "score": line["score"], "state": line["state"], "frames": 1}]
    assert line["segments"] == []


@pytest.mark.parametrize(
    "name", [folder.name for folder in engine_folders() if load_engine(folder.name).task == "classify"]
)
def test_every_shipped_classifier_judges_by_its_own_threshold(tmp_path, name):
    config = Config(classifier=ClassifierChoice(engine=name, variant="fp32"))
    path = write_still(tmp_path / "astronaut.png", photograph())
    (found,) = scan(expand([str(path)]), config)
    line, point = found.to_json(), operating_point(load_engine(name).manifest, "default")
    assert (line["faces"], line["error"]) == (1, None)
    assert 0 < line["score"] < 1
    assert line["threshold"] == pytest.approx(1 / (1 + np.exp(-point.threshold)), abs=1e-3)


def scores_of(paths):
    scores = [found.to_json()["score"] for found in verdicts(*paths)]
    assert all(score is not None for score in scores)
    return scores


def videos(tmp_path, picture):
    """One frame of H.264 with hardly any loss, tagged BT.601 and BT.709."""
    return [
        write_video(tmp_path / f"{matrix}.mp4", [picture], encoder={"crf": "1", "colorspace": tag}, matrix=matrix)
        for matrix, tag in (("bt601", "smpte170m"), ("bt709", "bt709"))
    ]


def test_one_still_scores_the_same_in_every_lossless_format(tmp_path):
    first, second = scores_of([write_still(tmp_path / f"a.{ending}", photograph()) for ending in ("png", "bmp")])
    assert first == second


def test_one_still_scores_the_same_as_jpeg(tmp_path):
    scores = scores_of([write_still(tmp_path / f"a.{ending}", photograph()) for ending in ("png", "jpg")])
    assert max(scores) - min(scores) <= 0.02, scores


def test_colours_follow_the_tags_to_the_classifiers_input(tmp_path):
    """The same face of the same picture, by way of BT.601 and of BT.709, differs by a level or so."""
    face = FaceInput.of(load_engine(Config().classifier.engine))
    box = Box(175, 57, 272, 180)
    crops = [face.prepare(picture_of_rgb(photograph()), box)]
    for path in videos(tmp_path, photograph()):
        with open_source(str(path)).open(1) as connection:
            crops.append(face.prepare(next(iter(connection)).picture, box))
    still, bt601, bt709 = (crop.astype(int) for crop in crops)
    assert np.abs(bt601 - bt709).mean() < 1.0
    assert np.abs(still - bt601).mean() < 1.0


def test_one_picture_scores_the_same_as_still_and_as_video(tmp_path):
    scores = scores_of([write_still(tmp_path / "a.png", photograph()), *videos(tmp_path, photograph())])
    assert max(scores) - min(scores) <= 0.02, scores


def test_every_key_of_a_line(tmp_path):
    (found,) = verdicts(write_video(tmp_path / "pattern.mp4", patterns(30)))
    assert found.to_json() == {
        "path": str(tmp_path / "pattern.mp4"),
        "kind": "video",
        "state": "inconclusive",
        "reason": "no face",
        "score": None,
        "operating_point": "default",
        "threshold": pytest.approx(found.to_json()["threshold"]),
        "faces": 0,
        "tracks": [],
        "segments": [],
        "error": None,
    }


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path):
    good = write_still(tmp_path / "good.png", photograph())
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    bad = [
        tmp_path / "missing.mp4",
        empty,
        text,
        write_sound(tmp_path / "sound.wav"),
        write_still(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8)),
        write_still(tmp_path / "huge.png", np.zeros((16_000, 16_000), np.uint8)),
    ]
    found = verdicts(*bad[:3], good, *bad[3:])
    assert [verdict.path for verdict in found] == [str(path) for path in (*bad[:3], good, *bad[3:])]
    for verdict in found:
        if verdict.path == str(good):
            assert verdict.error is None
            assert verdict.verdict.state is not State.INCONCLUSIVE
        else:
            assert verdict.error is not None
            assert verdict.path.rpartition("/")[2] in verdict.error
            assert verdict.verdict.state is State.INCONCLUSIVE


def test_a_cut_file_is_judged_as_far_as_it_goes(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", patterns(60), muxer={"movflags": "frag_keyframe+empty_moov"})
    (found,) = verdicts(cut(whole, 0.6))
    assert found.error is not None
    assert "whole.mp4" in found.error


def test_a_folder_gives_its_media_in_order_and_an_empty_one_is_an_error(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "clips" / "notes.txt").write_text("no media")
    for name in ("b", "a"):
        write_video(tmp_path / "clips" / f"{name}.mp4", patterns(10))
    found = verdicts(tmp_path / "clips", tmp_path / "empty")
    assert [verdict.path.rpartition("/")[2] for verdict in found] == ["a.mp4", "b.mp4", "empty"]
    assert [verdict.error is None for verdict in found] == [True, True, False]
