"""What comes of a measurement."""

from streamguard.inference.choices import ChoiceCache, choice_key
from streamguard.inference.engines import load_engine
from streamguard.inference.openvino import library, usual_order
from streamguard.inference.tuning import tune

ENGINE = load_engine("deepfake-steady")


def test_a_choice_is_measured_in_a_child_and_kept(tmp_path):
    heard, cache = [], ChoiceCache(tmp_path)
    tuned = tune(ENGINE, "openvino", heard.append, cache)
    assert cache.kept(choice_key(ENGINE, "openvino", library())) == tuned.variant
    assert tuned.milliseconds.keys() == set(usual_order(ENGINE))
    assert tuned.variant in ENGINE.variants  # which of them is fastest depends on the processor
    assert tuned.kept is not None
    assert tuned.line.startswith(f"deepfake-steady on openvino: {tuned.variant} (")
    assert heard[-1] == "deepfake-steady: round 12 of 12"
    assert tuned.to_json().keys() == {
        "name", "sha256", "processor", "backend", "library", "milliseconds", "variant", "reason", "kept",
    }  # fmt: skip


def test_a_backend_with_one_variant_keeps_nothing(tmp_path):
    tuned = tune(ENGINE, "onnxruntime", lambda text: None, ChoiceCache(tmp_path))
    assert (tuned.variant, tuned.kept, list(tmp_path.iterdir())) == ("fp32", None, [])
