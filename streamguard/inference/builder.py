"""From an engine's ONNX file to a TensorRT plan. Runs in a child process (:mod:`streamguard.inference.plans`).

TensorRT 11 and TensorRT-RTX take precision from the model alone: networks are strongly typed. So fp16 is a
converted model with fp32 at both ends, and int8 the engine's own file with symmetric int8 on both sides of
every convolution. Normalisation goes in front of the graph, where it works in fp32, so that the input stays uint8.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from streamguard.errors import EngineError
from streamguard.inference.engines import InputSpec

GRAPH_REVISION: Final = 1
"""Of what :func:`prepare` puts around a model. Plans of another revision are built again."""

MODEL, REQUEST, PLAN, REFUSAL = "model.onnx", "request.json", "model.plan", "refusal.txt"
"""Files in the folder that a child and its parent share."""


class Profile(NamedTuple):
    """Batch sizes that a plan serves: the smallest, the one it is tuned for, the largest."""

    least: int = 1
    best: int = 8
    most: int = 8


PROFILE: Final = Profile()


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. ``module``: ``tensorrt`` or ``tensorrt_rtx``; ``capabilities``: of devices, such as "8.6".

    ``tensorrt`` builds for the device at hand whatever they say; ``tensorrt_rtx`` needs no device.
    """

    module: str
    engine: str
    variant: str
    input: InputSpec
    capabilities: tuple[str, ...]
    profile: Profile = PROFILE

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BuildRequest:
        raw = json.loads(text)
        spec = raw["input"] | {key: tuple(raw["input"][key]) for key in ("mean", "std")}
        return cls(
            **raw | {
                "input": InputSpec(**spec),
                "capabilities": tuple(raw["capabilities"]),
                "profile": Profile(*raw["profile"]),
            }
        )  # fmt: skip


def prepare(model: bytes, spec: InputSpec, variant: str) -> bytes:
    """The ONNX ``model``, (N, 3, H, W) float32 in, as one that takes (N, H, W, 3) uint8 in precision ``variant``.

    Raises:
        EngineError: not a readable ONNX model, or one without the input that the manifest names.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise EngineError(f"not a readable ONNX model: {error}. Reinstall the engine.") from error
    if [tensor.name for tensor in graph.graph.input] != [spec.name]:
        found = ", ".join(tensor.name for tensor in graph.graph.input) or "none"
        raise EngineError(f"the ONNX model's inputs are {found}; the manifest names '{spec.name}'.")
    if variant == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        graph = convert_float_to_float16(graph, keep_io_types=True)
    _normalise_inside(graph, spec)
    content: bytes = graph.SerializeToString()
    return content


def _normalise_inside(model: Any, spec: InputSpec) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, inner = model.graph, f"{spec.name}_normalised"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == spec.name:
                node.input[index] = inner
    # The same two operations in the same order as the other adapters: (x - mean*scale) / (std*scale).
    for name, values in (("shift", spec.mean), ("spread", spec.std)):
        constant = np.array([value * spec.scale for value in values], np.float32)
        graph.initializer.append(numpy_helper.from_array(constant, f"{spec.name}_{name}"))
    steps = [
        helper.make_node("Cast", [spec.name], [f"{spec.name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", [f"{spec.name}_float", f"{spec.name}_shift"], [f"{spec.name}_centred"]),
        helper.make_node("Div", [f"{spec.name}_centred", f"{spec.name}_spread"], [f"{spec.name}_scaled"]),
        helper.make_node("Transpose", [f"{spec.name}_scaled"], [inner], perm=[0, 3, 1, 2]),
    ]
    nodes = _in_order([*steps, *graph.node], {spec.name, *(constant.name for constant in graph.initializer)})
    del graph.node[:]
    graph.node.extend(nodes)
    shape = ["batch", spec.height, spec.width, 3]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(spec.name, TensorProto.UINT8, shape))


def _in_order(nodes: Sequence[Any], known: set[str]) -> list[Any]:
    """``nodes`` so that each stands behind what it reads, as ONNX asks; the fp16 conversion appends its casts."""
    ordered: list[Any] = []
    known = known | {""}
    left = list(nodes)
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        if not ready:
            raise EngineError(f"the ONNX model reads '{left[0].input[0]}', which nothing in it makes.")
        ordered += ready
        known.update(name for node in ready for name in node.output)
        done = {id(node) for node in ready}
        left = [node for node in left if id(node) not in done]
    return ordered


def build(library: Any, model: bytes, request: BuildRequest) -> bytes:
    """The plan of a prepared ``model``, built by ``library``, the imported module.

    Raises:
        EngineError: the library can't read the model, can't run a part of it, or doesn't serve a capability.
    """
    logger = _make_logger(library)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(model):
        causes = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise _refused(request, "can't read the model", causes or logger.errors)
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)  # fp32 means fp32
    if hasattr(library, "ComputeCapability"):
        _name_capabilities(library, config, request)
    profile = builder.create_optimization_profile()
    spec = request.input
    profile.set_shape(spec.name, *((count, spec.height, spec.width, 3) for count in request.profile))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(request, "can't build the model", logger.errors)
    return bytes(plan)


def _name_capabilities(library: Any, config: Any, request: BuildRequest) -> None:
    """TensorRT-RTX builds for devices that are not there, if they are named."""
    served = library.ComputeCapability.__members__
    config.num_compute_capabilities = len(request.capabilities)
    for index, wanted in enumerate(request.capabilities):
        name = f"SM{wanted.replace('.', '')}"
        if name not in served:
            known = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in served if key.startswith("SM"))
            raise EngineError(
                f"{request.module} {library.__version__} serves no GPU of compute capability {wanted}; "
                f"it serves {known}. Choose backend tensorrt for data-centre GPUs, or openvino."
            )
        config.set_compute_capability(served[name], index)


def _make_logger(library: Any) -> Any:
    """A logger that keeps the library's errors, since it raises none."""

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _refused(request: BuildRequest, what: str, causes: Sequence[str]) -> EngineError:
    cause = " ".join(causes[0].split()) if causes else "it gives no reason"
    return EngineError(f"{request.module} {what} '{request.engine}' ({request.variant}): {cause}")


def main(folder: str) -> int:
    """The child process: model and request out of ``folder``, plan or refusal into it."""
    place = Path(folder)
    request = BuildRequest.from_json((place / REQUEST).read_text(encoding="utf-8"))
    try:
        library = importlib.import_module(request.module)
        model = prepare((place / MODEL).read_bytes(), request.input, request.variant)
        (place / PLAN).write_bytes(build(library, model, request))
    except (EngineError, ImportError) as error:
        (place / REFUSAL).write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
