"""What an engine's numbers mean."""

import pytest

from streamguard.decision.calibration import (
    OperatingPoint,
    Temperature,
    by_hand,
    calibrated_rates,
    operating_point,
    operating_points,
    temperature,
)
from streamguard.errors import ConfigError, EngineForeign

MANIFEST = {
    "name": "deepfake-steady",
    "variants": {
        "fp32": {"calibration": {"temperature": 2.0, "bias": -0.5}},
        "int8": {
            "calibration": {"temperature": 1.6, "bias": 0.25},
            "operating_points": {"default": {"threshold": 1.5, "promise": "measured on int8"}},
        },
    },
    "operating_points": {
        "strict": {"threshold": 2.5, "promise": "at most 0.1 % of real minutes"},
        "default": {"threshold": 1.25, "promise": "at most 1 % of real minutes"},
    },
}


def test_raw_to_calibrated():
    assert Temperature(2.0, -0.5).calibrated(3.0) == 1.0
    assert Temperature().calibrated(3.0) == 3.0


@pytest.mark.parametrize(("variant", "expected"), [("fp32", Temperature(2.0, -0.5)), ("int8", Temperature(1.6, 0.25))])
def test_each_variant_has_its_calibration(variant, expected):
    assert temperature(MANIFEST, variant) == expected


def test_an_unknown_variant_has_none():
    with pytest.raises(EngineForeign, match=r"'deepfake-steady' has no calibration for its variant 'bf16'"):
        temperature(MANIFEST, "bf16")


@pytest.mark.parametrize(
    "calibration",
    [
        None,
        {},
        {"temperature": 1.0},
        {"bias": 0.0},
        {"temperature": "hot", "bias": 0.0},
        {"temperature": 0.0, "bias": 0.0},
        {"temperature": -1.0, "bias": 0.0},
        {"temperature": float("nan"), "bias": 0.0},
        {"temperature": float("inf"), "bias": 0.0},
        {"temperature": 1.0, "bias": float("inf")},
    ],
)
def test_a_calibration_that_is_none(calibration):
    manifest = {"name": "odd", "variants": {"fp32": {"calibration": calibration}}}
    with pytest.raises(EngineForeign, match="'odd'"):
        temperature(manifest, "fp32")


def test_a_manifest_without_variants():
    with pytest.raises(EngineForeign, match="no calibration"):
        temperature({"name": "odd"}, "fp32")


def test_an_operating_point():
    assert operating_point(MANIFEST, "strict") == OperatingPoint("strict", 2.5, "at most 0.1 % of real minutes")


def test_a_variant_that_was_measured_on_its_own():
    assert operating_point(MANIFEST, "default", "int8").threshold == 1.5
    assert operating_point(MANIFEST, "default", "fp32").threshold == 1.25
    assert operating_point(MANIFEST, "default", "bf16").threshold == 1.25


def test_an_operating_point_with_a_rise():
    def manifest(rise):
        return {"name": "odd", "operating_points": {"default": {"threshold": 1.0, "rise": rise, "promise": "few"}}}

    assert operating_point(manifest(0.9), "default").rise == 0.9
    assert operating_point(manifest(None), "default").rise is None
    for rise in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EngineForeign, match=r"'default' of engine 'odd' has rise"):
            operating_point(manifest(rise), "default")
    with pytest.raises(EngineForeign, match="Expected a threshold and a promise"):
        operating_point(manifest("much"), "default")


def test_an_unknown_operating_point_names_the_known():
    with pytest.raises(
        ConfigError, match=r"'deepfake-steady' has no operating point 'lax'. It has: 'strict', 'default'"
    ):
        operating_point(MANIFEST, "lax")
    with pytest.raises(ConfigError, match="It has: none"):
        operating_point({"name": "odd"}, "default")


@pytest.mark.parametrize(
    "point",
    [
        {"threshold": 1.0},
        {"promise": "x"},
        {"threshold": None, "promise": "x"},
        {"threshold": float("nan"), "promise": "x"},
        {"threshold": float("inf"), "promise": "x"},
        {"threshold": 1.0, "promise": ""},
        {"threshold": 1.0, "promise": 7},
        1.0,
    ],
)
def test_an_operating_point_that_is_none(point):
    with pytest.raises(EngineForeign, match="'default' of engine 'odd'"):
        operating_point({"name": "odd", "operating_points": {"default": point}}, "default")


def test_the_rates_are_read():
    assert calibrated_rates({"name": "e", "rate": {"lowest_hz": 2.0, "highest_hz": 30}}) == (2.0, 30.0)


@pytest.mark.parametrize(
    "rate",
    [
        None,
        {},
        {"highest_hz": 30},
        {"lowest_hz": 2, "highest_hz": "often"},
        {"lowest_hz": 0, "highest_hz": 30},
        {"lowest_hz": 2, "highest_hz": float("nan")},
        {"lowest_hz": 2, "highest_hz": float("inf")},
        {"lowest_hz": 5, "highest_hz": 2},
    ],
)
def test_a_manifest_without_sound_rates_is_foreign(rate):
    with pytest.raises(EngineForeign, match=r"Engine 'e' has \"rate\""):
        calibrated_rates({"name": "e", "rate": rate})


def test_all_operating_points_of_a_variant_that_has_its_own():
    assert operating_points(MANIFEST, "int8") == (OperatingPoint("default", 1.5, "measured on int8"),)
    assert [point.name for point in operating_points(MANIFEST, "fp32")] == ["strict", "default"]
    assert operating_points({"name": "bare"}) == ()


def test_a_threshold_by_hand_keeps_the_proportion_of_the_rise():
    like = OperatingPoint("default", 2.0, "at most 1 %", 1.0)
    made = by_hand(3.0, like)
    assert (made.name, made.threshold, made.rise) == ("by hand", 3.0, 1.5)
    assert made.promise == "Set by hand. It promises nothing."
    assert by_hand(-1.0, like).rise == 0.25, "never none at all: any track rises a little"
    assert by_hand(1.0, OperatingPoint("default", 2.0, "...")).rise is None
    assert by_hand(1.0, OperatingPoint("default", -1.0, "...", 0.5)).rise == 0.5


@pytest.mark.parametrize("threshold", [4.0, -4.0, float("nan"), float("inf")])
def test_a_threshold_that_no_evidence_could_reach(threshold):
    with pytest.raises(ValueError, match=r"expected -3\.9 to 3\.9"):
        by_hand(threshold, OperatingPoint("default", 2.0, "..."))
