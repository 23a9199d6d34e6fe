"""TensorRT-RTX for tests: it builds plans without a GPU, so it runs in CI."""

import importlib
import os

import pytest


def require_rtx():
    """The module `tensorrt_rtx`; skip the test where it is not installed, but fail in CI, where it is promised."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except (ImportError, OSError) as error:
        reason = f"no tensorrt-rtx ({error}); pip install 'streamguard[trt-test]'"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
