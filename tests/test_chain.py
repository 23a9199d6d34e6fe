"""What all streams share, with the shipped engines."""

from queue import SimpleQueue

import pytest

from streamguard.chain import assemble, calibrated_sampling, usable_cores
from streamguard.config import Config
from streamguard.decision.calibration import by_hand
from streamguard.errors import ConfigError
from streamguard.inference.engines import load_engine
from streamguard.vision.sampler import SamplerSettings


def test_a_stream_can_be_held_against_every_operating_point_of_the_variant_that_runs():
    chain = assemble(Config(operating_point="sensitive"), SimpleQueue())
    try:
        assert [point.name for point in chain.points] == ["default", "sensitive"]
        assert chain.settings.point == chain.points[1]
        made = by_hand(1.0, chain.settings.point)
        judged = chain.judged_by(made)
        assert judged.point is made
        assert (judged.decision, judged.face) == (chain.settings.decision, chain.settings.face)
    finally:
        chain.models.detector.close()
        chain.models.classifier.close()


def test_sampling_that_no_operating_point_holds_for():
    with pytest.raises(ConfigError, match="'sampling' can't be followed"):
        calibrated_sampling(SamplerSettings(lowest_hz=100.0), load_engine("deepfake-steady"))


def test_there_is_a_core():
    assert usable_cores() >= 1
