"""What `variant: auto` takes: chosen, kept, used, and ignored where it was measured elsewhere."""

import json
import logging
from dataclasses import replace
from queue import SimpleQueue

import pytest

from streamguard.inference import choices
from streamguard.inference.choices import ChoiceCache, choice_key, choose
from streamguard.inference.engines import load_engine
from streamguard.inference.openvino import OpenVinoBackend, library, usual_order

DETECTOR, CLASSIFIER = load_engine("face-yolov8n"), load_engine("deepfake-steady")


def key_of(engine, **changes):
    return replace(choice_key(engine, "openvino", "openvino 2026.4"), **changes)


def chosen(engine, **milliseconds):
    return choose(engine, key_of(engine), milliseconds)


@pytest.fixture
def has(monkeypatch):
    """Pretend that the processor has nothing but these."""

    def set_to(*features):
        monkeypatch.setattr(choices, "low_precision", lambda: features)

    return set_to


# Choosing


@pytest.mark.parametrize(
    ("milliseconds", "variant"),
    [
        ({"int8": 5.0, "fp32": 17.0, "bf16": 6.0}, "int8"),
        ({"int8": 22.0, "fp32": 17.0}, "fp32"),
        ({"int8": 9.0, "fp32": 17.0, "bf16": 4.0}, "bf16"),
        ({"int8": 9.0, "fp32": 17.0, "bf16": 8.9}, "int8"),
    ],
)
def test_a_detector_takes_the_fastest_that_is_noticeably_faster(milliseconds, variant):
    assert chosen(DETECTOR, **milliseconds).variant == variant


def test_a_classifier_takes_none_that_it_is_not_calibrated_for():
    choice = chosen(CLASSIFIER, fp32=5.0, bf16=2.0)
    assert choice.variant == "fp32"
    assert "of those that are calibrated (bf16: only when named)" in choice.reason


def test_what_is_fastest_without_bf16_and_vnni_is_said(has):
    has()
    choice = chosen(DETECTOR, int8=22.0, fp32=17.0)
    assert choice.reason == "the fastest here; this processor has neither VNNI nor bf16"
    has("VNNI")
    assert chosen(DETECTOR, int8=5.0, fp32=17.0).reason == "the fastest here; this processor has VNNI, no bf16"
    has("VNNI", "bf16")
    reason = chosen(DETECTOR, int8=9.0, fp32=17.0, bf16=8.9).reason
    assert reason == "hardly slower than bf16, and the usual one; this processor has VNNI and bf16"


# Keeping


def test_a_choice_is_kept_with_what_it_depends_on(tmp_path):
    cache = ChoiceCache(tmp_path / "choices")
    key = key_of(DETECTOR)
    assert cache.kept(key) is None
    path = cache.keep(chosen(DETECTOR, int8=22.0, fp32=17.0))
    assert cache.kept(key) == "fp32"
    assert path.parent.stat().st_mode & 0o077 == 0
    stated = json.loads(path.read_text())
    assert stated["key"]["library"] == "openvino 2026.4"
    assert stated["key"]["processor"] == key.processor
    assert stated["milliseconds"] == {"int8": 22.0, "fp32": 17.0}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"processor": "Another CPU"}, "processor was "),
        ({"library": "openvino 2027.1"}, "library was openvino 2026.4"),
        ({"models": "fp32 1234"}, "models was "),
    ],
)
def test_a_choice_of_elsewhere_is_ignored_with_one_line(tmp_path, caplog, changed, said):
    cache = ChoiceCache(tmp_path)
    cache.keep(chosen(DETECTOR, int8=22.0, fp32=17.0))
    assert cache.kept(key_of(DETECTOR, **changed)) is None
    assert len(caplog.messages) == 1
    assert said in caplog.text
    assert "Run `streamguard engines build`" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": {"engine": 1}, "variant": "fp32"}', "\x00"])
def test_a_damaged_file_is_ignored_by_name(tmp_path, caplog, content):
    cache = ChoiceCache(tmp_path)
    path = tmp_path / "face-yolov8n.openvino.json"
    path.write_text(content)
    assert cache.kept(key_of(DETECTOR)) is None
    assert str(path) in caplog.text


def test_a_folder_that_can_not_be_written_keeps_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert ChoiceCache(tmp_path / "file" / "below").keep(chosen(DETECTOR, fp32=1.0)) is None
    assert "nothing is kept" in caplog.text


# Using


def test_openvino_takes_what_was_kept(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    cache = ChoiceCache(tmp_path)
    other = usual_order(DETECTOR)[-1]
    key = choice_key(DETECTOR, "openvino", library())
    cache.keep(replace(chosen(DETECTOR, fp32=1.0), key=key, variant=other))
    backend = OpenVinoBackend(DETECTOR, "auto", SimpleQueue(), slots=1, choices=cache)
    assert backend.variant == backend.variants[0] == other
    assert set(backend.variants) == set(usual_order(DETECTOR))
    backend.close()
    named = OpenVinoBackend(DETECTOR, "fp32", SimpleQueue(), slots=1, choices=cache)
    assert named.variant == "fp32"
    named.close()
    assert caplog.messages == []


def test_a_kept_variant_that_is_no_longer_offered_changes_nothing(tmp_path):
    cache, key = ChoiceCache(tmp_path), key_of(DETECTOR)
    cache.keep(replace(chosen(DETECTOR, fp32=1.0), variant="int4"))
    assert cache.ordered(("int8", "fp32"), key) == ("int8", "fp32")
