"""From weights to an engine folder: ONNX fp32, ONNX int8, manifest.json, CARD.md, LICENSE.

The shipped graph takes (N, 3, S, S) float32 RGB 0..1 and gives (N, 5, anchors): cx, cy, w, h in input
pixels and a score 0..1. Normalisation of uint8 frames is the backends' business.

The int8 file is one for all runtimes: explicit Q/DQ round the convolutions, symmetric int8 for activations and
weights, bias in float. TensorRT refuses uint8 activations and int32 bias, and OpenVINO runs this form fastest. The
decode tail is left in float: on one scale, boxes (0..320) and scores (0..1) would cost whole pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import numpy_helper

from streamguard.errors import InputMissing, UsageError
from streamguard.frames import F32, U8
from streamguard.lab.detector_card import card
from streamguard.pixels import RESAMPLER, letterbox, picture_of_rgb

log = logging.getLogger(__name__)

OPSET = 17
PAD = 114
NAME = "face-yolov8n"
DESCRIPTION = "Ultralytics YOLOv8n, one class: face. Trained by StreamGuard."
STAMP = ("author", "license", "docs", "version", "date", "stride", "task", "names", "imgsz")
"""Metadata of ultralytics' export that stays; its description would name a path of the training machine."""


def export(weights: Path, target: Path, size: int) -> None:
    """Write ``weights`` (.pt of ultralytics) as fp32 ONNX with a dynamic batch and a fixed picture size.

    Raises:
        InputMissing: no such weights.
    """
    if not weights.is_file():
        raise InputMissing(f"weights '{weights}' don't exist. Train first, or point --out at a run that has them.")
    from ultralytics import YOLO

    copy = target.with_suffix(".pt")  # ultralytics writes the export beside its weights, under their name
    shutil.copyfile(weights, copy)
    YOLO(copy).export(format="onnx", imgsz=size, opset=OPSET, simplify=True, dynamic=False, device="cpu")
    model = onnx.load(target)
    free_batch(model)
    stamps = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    kept = {key: stamps[key] for key in STAMP if key in stamps}
    onnx.helper.set_model_props(model, {"description": DESCRIPTION, **kept})
    onnx.checker.check_model(model)
    onnx.save(model, target)
    copy.unlink()


def free_batch(model: onnx.ModelProto) -> None:
    """Make the batch of a graph exported with batch 1 dynamic, in place.

    The picture size stays fixed, so that anchors are constants; every Reshape to ``1, ...`` becomes one to
    ``0, ...``, which ONNX reads as "as the input has it".
    """
    graph = model.graph
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in targets:
            shape = numpy_helper.to_array(tensor).copy()
            if shape[0] == 1:
                shape[0] = 0
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # shapes inferred for batch 1


def decode_tail(model: onnx.ModelProto) -> list[str]:
    """Names of the head's nodes behind its last box and score convolutions: DFL, box decode, final Concat."""
    head = max(int(n.name.split("/model.")[1].split("/")[0]) for n in model.graph.node if "/model." in n.name)
    prefix = f"/model.{head}/"
    branches = (f"{prefix}cv2", f"{prefix}cv3")
    return [n.name for n in model.graph.node if n.name.startswith(prefix) and not n.name.startswith(branches)]


def calibration(pictures: Sequence[Path], size: int) -> Iterator[F32]:
    """Pictures as the net gets them in service: through 4:2:0 planes and the letterbox, (1, 3, S, S) float32 0..1."""
    for path in pictures:
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise InputMissing(f"calibration picture '{path}' can't be read. Write the dataset again.")
        yield as_input(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), size)


def as_input(rgb: U8, size: int) -> F32:
    """(H, W, 3) uint8 RGB -> (1, 3, S, S) float32 0..1 through the serving letterbox."""
    boxed, _ = letterbox(picture_of_rgb(rgb), size, size, PAD)
    return np.ascontiguousarray(boxed.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def quantise(source: Path, target: Path, pictures: Sequence[Path]) -> None:
    """Write ``source`` as S8S8 symmetric QDQ with float bias, calibrated on ``pictures``.

    Raises:
        UsageError: no calibration pictures.
    """
    if not pictures:
        raise UsageError("int8 needs calibration pictures and got none. Write the dataset first.")
    from onnxruntime import quantization as ort

    model = onnx.load(source)
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.feed = ({"images": x} for x in calibration(pictures, size))

        def get_next(self) -> dict[str, F32] | None:
            return next(self.feed, None)

    ort.quantize_static(
        str(source), str(target), Reader(),
        quant_format=ort.QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
        activation_type=ort.QuantType.QInt8, weight_type=ort.QuantType.QInt8,
        nodes_to_exclude=decode_tail(model), calibrate_method=ort.CalibrationMethod.MinMax,
        # Convolution outputs stay float: their SiLU follows at once, and the head's last outputs are the result.
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "OpTypesToExcludeOutputQuantization": ["Conv"]},
    )  # fmt: skip
    quantised = onnx.load(target)
    fence_concats(quantised)
    del quantised.metadata_props[:]
    onnx.helper.set_model_props(quantised, {entry.key: entry.value for entry in model.metadata_props})
    onnx.checker.check_model(quantised)
    onnx.save(quantised, target)


def fence_concats(model: onnx.ModelProto) -> None:
    """Put a 1x1 MaxPool, which changes nothing, between each Concat and the Quantize behind it, in place.

    OpenVINO (seen in 2026.4.1) moves a symmetric int8 Quantize up through a Concat into its branches, makes them
    uint8, and then computes the convolution behind it 20 to 50 % wrong. ONNX Runtime computes the same file right.
    It does not move it through a pooling. Cost: 0.4 of 12.4 ms.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    fenced: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and made.get(node.input[0], node).op_type == "Concat":
            source = node.input[0]
            if source not in fenced:
                fence = onnx.helper.make_node(
                    "MaxPool", [source], [f"{source}_fenced"], f"{source}_fence", kernel_shape=[1, 1]
                )
                nodes.append(fence)
                fenced.add(source)
            node.input[0] = f"{source}_fenced"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def manifest(files: Mapping[str, Path], size: int, confidence: float, created: str) -> dict[str, Any]:
    """The engine's manifest. ``files``: variant -> model file; ``confidence``: the committed threshold, 0..1."""
    variants = {v: {"file": f.name, "sha256": hashlib.sha256(f.read_bytes()).hexdigest()} for v, f in files.items()}
    return {
        "name": NAME,
        "version": "1.0.0",
        "task": "detect",
        "created": created,
        "variants": variants,
        "input": {
            "name": "images", "width": size, "height": size, "channels": "rgb", "layout": "nchw",
            "scale": 255.0, "mean": [0, 0, 0], "std": [1, 1, 1],
        },
        "preprocessing": {"kind": "letterbox", "resampler": RESAMPLER, "pad": PAD},
        "output": {"name": "output0", "kind": "yolov8"},
        "decode": {"confidence": confidence, "iou": 0.5, "top_k": 300},
        "license": "AGPL-3.0-only",
    }  # fmt: skip


def stage(run: Path, size: int, confidence: float) -> Path:
    """Models and manifest of a run as ``<run>/engine``, which the serving code can load and measure."""
    folder = run / "engine"
    folder.mkdir(exist_ok=True)
    files = {"fp32": folder / "model.onnx", "int8": folder / "model.int8.onnx"}
    for file in files.values():
        shutil.copyfile(run / file.name, file)
    content = manifest(files, size, confidence, datetime.now(UTC).date().isoformat())
    (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder


def write_engine(run: Path, folder: Path) -> None:
    """Write the engine of a finished run: model files, manifest.json, CARD.md, LICENSE.

    Raises:
        InputMissing: the run has no metrics.json or lacks a model file.
        UsageError: a figure that the card must state is missing or empty; nothing is written.
    """
    for name in ("metrics.json", "model.onnx", "model.int8.onnx"):
        if not (run / name).is_file():
            raise InputMissing(f"run '{run}' has no {name}. Finish it with 'streamguard lab detector --resume'.")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    text = card(metrics)
    staged = stage(run, int(metrics["size"]), float(metrics["confidence"]))
    folder.mkdir(parents=True, exist_ok=True)
    for file in staged.iterdir():
        shutil.copyfile(file, folder / file.name)
    (folder / "CARD.md").write_text(text, encoding="utf-8")
    (folder / "LICENSE").write_text(license_text(), encoding="utf-8")


def license_text() -> str:
    """The AGPL-3.0, as the installed ultralytics carries it."""
    found = [f for f in distribution("ultralytics-opencv-headless").files or () if f.name == "LICENSE"]
    if not found:
        raise InputMissing("the installed ultralytics carries no LICENSE file. Install it anew.")
    return Path(str(found[0].locate())).read_text(encoding="utf-8")
