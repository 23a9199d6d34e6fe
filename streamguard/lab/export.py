"""From a trained net to an engine folder: ONNX fp32 and int8, manifest.json, LICENSE.

Both graphs take (N, 3, S, S) float32 RGB, normalised as the manifest states, N dynamic, and give (N, 1) raw
logits. TensorFlow's "same" padding is written into the convolutions, since the picture's size is fixed.

The int8 file holds symmetric signed Q/DQ round its convolutions and a float bias: one file that ONNX Runtime,
OpenVINO and TensorRT all take. Weights have a scale a channel, without which depthwise layers fall apart. The first
:data:`KEPT_FLOAT` convolutions stay in float: the traces that the net looks for are a few levels high there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from onnx import helper
from onnxruntime import quantization as ort
from torch import nn

from streamguard.errors import UsageError
from streamguard.frames import F32, U8
from streamguard.lab.model import MEAN, SCALE, STD, normalised
from streamguard.pixels import RESAMPLER

LICENCE_ID: Final = "LicenseRef-StreamGuard-Research"
OPSET: Final = 17
KEPT_FLOAT: Final = 5  # convolutions: with them in int8 the logits correlate 0.91 with fp32's, without 0.997
LICENCE_TEXT: Final = """\
{name}: licence of this engine (LicenseRef-StreamGuard-Research)

The files of this folder (model.onnx, its variants, manifest.json, CARD.md) may be used, copied and changed for
research and evaluation only. They may not be used commercially, nor as the only ground for a decision about a person.

Why: the network was trained on pictures of real people out of research sets (DFDC, OpenForensics, FFHQ, StyleGAN,
UTKFace) and on short videos of real speakers, whose terms are for research and non-commercial use as far as known.
No such picture is in this folder. The ImageNet weights that training started from are a port of Google's
EfficientNet-Lite0 (Apache-2.0).

StreamGuard's code is Apache-2.0 and does not depend on this engine: any engine of the documented form, trained on data
of your own, may take its place.

The engine comes as it is, without warranty of any kind. Its scores are signs of manipulation, not proof of it.
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the manifest states beside the files. The engine's ``name`` is that of its folder."""

    name: str
    version: str
    created: str
    size: int
    margin: float
    calibrations: Mapping[str, tuple[float, float]]  # variant -> (temperature, bias)
    operating_points: Mapping[str, Mapping[str, Mapping[str, Any]]]  # variant -> name -> threshold, promise


def export(net: nn.Module, target: Path, size: int) -> None:
    """Write the fp32 graph of ``net`` for pictures of ``size`` pixels; ``target`` lies in the engine folder."""
    plain = _with_fixed_padding(net, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is old, and the only one without a further package
        torch.onnx.export(
            plain, (torch.zeros(1, 3, size, size),), str(target), input_names=["face"], output_names=["logit"],
            opset_version=OPSET, dynamo=False, dynamic_axes={"face": {0: "batch"}, "logit": {0: "batch"}},
        )  # fmt: skip
    model = onnxslim.slim(onnx.load(target))  # also turns a Pad before a Conv into the Conv's own padding
    if any(node.op_type == "Pad" for node in model.graph.node):
        raise UsageError(
            f"the graph of '{target}' still holds a Pad, which no runtime quantises well. Another onnxslim?"
        )
    del model.metadata_props[:]
    helper.set_model_props(model, {"description": f"StreamGuard {target.parent.name}", "license": LICENCE_ID})
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _with_fixed_padding(net: nn.Module, size: int) -> nn.Module:
    """A copy whose "same" convolutions pad by the amount that this picture size asks for."""
    net = copy.deepcopy(net).eval()
    seen: dict[str, tuple[int, int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, x, name=name: seen.__setitem__(name, tuple(x[0].shape[-2:])))
        for name, module in net.named_modules()
        if type(module).__name__ == "Conv2dSame"
    ]
    with torch.no_grad():
        net(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    for name, shape in seen.items():
        old = net.get_submodule(name)
        parent, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(parent), leaf, _padded(old, shape))
    return net


def _padded(old: Any, shape: tuple[int, int]) -> nn.Module:
    pads: list[int] = []
    for length, kernel, stride in reversed(list(zip(shape, old.kernel_size, old.stride, strict=True))):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [total // 2, total - total // 2]
    conv = nn.Conv2d(
        old.in_channels, old.out_channels, old.kernel_size, old.stride, 0, groups=old.groups, bias=old.bias is not None
    )
    conv.load_state_dict(old.state_dict())
    return nn.Sequential(nn.ZeroPad2d(tuple(pads)), conv)


class _Reader(ort.CalibrationDataReader):
    def __init__(self, pictures: U8) -> None:
        self._feed: Iterator[dict[str, F32]] = ({"face": as_input(pictures[i : i + 1])} for i in range(len(pictures)))

    def get_next(self) -> dict[str, F32] | None:
        return next(self._feed, None)


def quantise(source: Path, target: Path, pictures: U8) -> None:
    """Write ``source`` as S8S8 symmetric QDQ with float bias, calibrated on (N, S, S, 3) uint8 RGB ``pictures``.

    Raises:
        UsageError: no pictures.
    """
    if not len(pictures):
        raise UsageError("int8 needs calibration pictures and got none. Build the face store first.")
    given = onnx.load(source)
    early = [node.name for node in given.graph.node if node.op_type == "Conv"][:KEPT_FLOAT]
    ort.quantize_static(
        str(source), str(target), _Reader(pictures),
        quant_format=ort.QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
        activation_type=ort.QuantType.QInt8, weight_type=ort.QuantType.QInt8, nodes_to_exclude=early,
        calibrate_method=ort.CalibrationMethod.MinMax,
        # One picture with extreme activations would stretch the scale of all: average the ranges.
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05},
    )  # fmt: skip
    quantised = onnx.load(target)
    del quantised.metadata_props[:]
    helper.set_model_props(quantised, {entry.key: entry.value for entry in given.metadata_props})
    onnx.save(quantised, target)


def as_input(pictures: U8) -> F32:
    """(N, S, S, 3) uint8 RGB -> what the graph takes."""
    return np.ascontiguousarray(normalised(pictures).numpy())


class Runner:
    """An exported graph in ONNX Runtime, the reference."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: U8, batch: int = 16) -> F32:
        """Raw logits, (N,) float32, of (N, S, S, 3) uint8 RGB pictures."""
        parts = [
            self._session.run(["logit"], {"face": as_input(pictures[i : i + batch])})[0][:, 0]
            for i in range(0, len(pictures), batch)
        ]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def manifest(files: Mapping[str, Path], facts: Facts) -> dict[str, Any]:
    """The engine's manifest. ``files``: variant -> model file, ``fp32`` first."""
    variants: dict[str, Any] = {}
    for name, file in files.items():
        temperature, bias = facts.calibrations[name]
        variants[name] = {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "calibration": {"temperature": round(temperature, 4), "bias": round(bias, 4)},
        }
        if name != "fp32":  # the runtime prefers a variant's own thresholds over the engine's
            variants[name]["operating_points"] = facts.operating_points[name]
    return {
        "name": facts.name,
        "version": facts.version,
        "task": "classify",
        "created": facts.created,
        "variants": variants,
        "input": {
            "name": "face", "width": facts.size, "height": facts.size, "channels": "rgb", "layout": "nchw",
            "scale": SCALE, "mean": [round(v, 6) for v in MEAN], "std": [round(v, 6) for v in STD],
        },
        "preprocessing": {
            "kind": "face-square", "resampler": RESAMPLER, "margin": facts.margin, "border": "reflect101",
        },
        "output": {"name": "logit", "kind": "logit"},
        "rate": {"lowest_hz": 2.0, "highest_hz": 30.0},
        "operating_points": facts.operating_points["fp32"],
        "license": LICENCE_ID,
    }  # fmt: skip


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """manifest.json and LICENSE into an engine folder."""
    (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "LICENSE").write_text(LICENCE_TEXT.format(name=content["name"]), encoding="utf-8")
