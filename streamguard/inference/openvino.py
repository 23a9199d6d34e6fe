"""OpenVINO adapter: the CPU default.

One model, ``slots`` infer requests, one stream and one thread each: on CPU, two single-thread streams beat
one picture on two threads, and a larger batch buys nothing (docs/performance.md). Normalisation runs inside
the graph, so that the input stays uint8.

An x86 without VNNI overflows on int8 (:func:`~streamguard.inference.processor.int8_is_exact`): :func:`narrow_weights`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as opset
from openvino.preprocess import PrePostProcessor

from streamguard.errors import BackendError, EngineError
from streamguard.frames import F32, U8
from streamguard.inference.backend import Completion, Completions, check_batch, choose_variant
from streamguard.inference.choices import ChoiceCache, choice_key
from streamguard.inference.engines import Engine
from streamguard.inference.processor import int8_is_exact, processor

_HINT: Final = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def offered_variants(engine: Engine, capabilities: list[str]) -> tuple[str, ...]:
    """Variants in the order ``auto`` prefers them.

    int8 is the fastest for the detector's plain convolutions. For a classifier's depthwise ones it depends on the
    processor, so the file that the card's figures are of, fp32, goes first. bf16 comes last: a CPU that has it may be
    faster or slower with it than with fp32. `streamguard engines build` measures this one, and its choice goes before
    this order.
    """
    bf16 = ("bf16",) if "BF16" in capabilities else ()
    int8 = ("int8",) if "int8" in engine.variants and "INT8" in capabilities else ()
    return (*int8, "fp32", *bf16) if engine.task == "detect" else ("fp32", *int8, *bf16)


def usual_order(engine: Engine) -> tuple[str, ...]:
    """The variants on this processor, as ``auto`` prefers them while nothing was measured.

    OpenVINO names int8 also where its sums overflow. A detector runs there with narrower weights; a classifier's
    thresholds belong to the weights that it was calibrated with, so it has no int8.
    """
    capabilities: list[str] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    usable = engine.task == "detect" or int8_is_exact()
    return offered_variants(engine, [name for name in capabilities if name != "INT8" or usable])


def library() -> str:
    """OpenVINO with its version, as a choice names it."""
    return f"openvino {ov.get_version()}"


@dataclass(slots=True)
class _Job:
    token: object
    started: float
    batch: U8  # OpenVINO reads this memory while the request runs: it must stay alive


class OpenVinoBackend:
    """A compiled model with a pool of asynchronous infer requests.

    Raises:
        EngineError: no such variant, or one that this processor would compute wrongly, or OpenVINO can't compile the
            model for it.
    """

    name: Final = "openvino"
    preferred_batch: Final = 1

    def __init__(
        self,
        engine: Engine,
        variant: str,
        completions: Completions,
        *,
        slots: int,
        choices: ChoiceCache | None = None,
    ) -> None:
        core = ov.Core()
        key = choice_key(engine, self.name, library())
        self.variants = (choices or ChoiceCache()).ordered(usual_order(engine), key)
        if variant == "int8" and "int8" in engine.variants and engine.task != "detect" and not int8_is_exact():
            raise EngineError(
                f"engine '{engine.name}' can't run as int8 on this processor ({processor()}): it has no VNNI, the sums "
                f"overflow, and the thresholds would not hold. Use one of: {', '.join(self.variants)}, or auto."
            )
        self.variant = choose_variant(variant, self.variants, engine, self.name)
        self.slots = slots
        self._engine = engine
        self._completions = completions
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": slots,
            "INFERENCE_NUM_THREADS": slots,
            "INFERENCE_PRECISION_HINT": _HINT[self.variant],
        }
        try:
            compiled = core.compile_model(_graph(core, engine, self.variant), "CPU", options)
        except RuntimeError as error:
            # Its own words end a chain of source lines. Known: ARMv8.0, for instance Cortex-A72.
            raise EngineError(
                f"{library()} can't compile '{engine.name}' ({self.variant}) for this processor: "
                f"{str(error).strip().splitlines()[-1]}. Set detector.backend and classifier.backend to onnxruntime."
            ) from error
        self._all = [compiled.create_infer_request() for _ in range(slots)]
        for request in self._all:
            request.set_callback(self._finished, request)
        self._idle = list(self._all)
        self._jobs: dict[int, _Job] = {}

    def submit(self, batch: U8, token: object) -> None:
        check_batch(batch, self._engine, self.preferred_batch)
        if not self._idle:
            raise ValueError(f"all {self.slots} slots of '{self._engine.name}' are in flight")
        request = self._idle.pop()
        batch = np.ascontiguousarray(batch)
        self._jobs[id(request)] = _Job(token, time.perf_counter(), batch)
        try:
            request.set_input_tensor(ov.Tensor(batch, shared_memory=True))
            request.start_async()
        except RuntimeError as error:
            self._post(request, None, BackendError(f"OpenVINO refused a batch of '{self._engine.name}': {error}"))

    def _finished(self, request: ov.InferRequest) -> None:
        # Runs in a thread of OpenVINO. An exception here would be lost: it becomes a result.
        try:
            outputs = np.array(request.get_output_tensor(0).data, np.float32)
        except RuntimeError as error:
            self._post(request, None, BackendError(f"OpenVINO lost a batch of '{self._engine.name}': {error}"))
        else:
            self._post(request, outputs, None)

    def _post(self, request: ov.InferRequest, outputs: F32 | None, error: BackendError | None) -> None:
        job = self._jobs.pop(id(request))
        # The request is idle before its result is seen, so that whoever sees it may submit at once.
        self._idle.append(request)
        self._completions.put(Completion(job.token, outputs, error, time.perf_counter() - job.started))

    def close(self) -> None:
        for request in self._all:
            request.wait()


def _graph(core: ov.Core, engine: Engine, variant: str) -> ov.Model:
    spec = engine.input
    model = core.read_model(engine.model(variant), b"")
    if variant == "int8" and not int8_is_exact() and not narrow_weights(model):
        raise EngineError(f"'{engine.name}': its int8 file has no int8 convolution. Use variant fp32, or auto.")
    model.reshape([1, 3, spec.height, spec.width])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    # One subtraction and one division: (x / scale - mean) / std = (x - mean*scale) / (std*scale)
    normalise = steps.input().preprocess().convert_element_type(ov.Type.f32)
    normalise.mean([m * spec.scale for m in spec.mean]).scale([s * spec.scale for s in spec.std])
    return steps.build()


def narrow_weights(model: ov.Model) -> int:
    """Weights of int8 convolutions to -64..64, with twice the scale; returns how many convolutions there are.

    Where products of 8 bits are added pair by pair in 16, such pairs fit: 2 x 255 x 64 < 2^15. Of a weight's eight bits
    one is lost (NNCF's ``overflow_fix`` does the same when it quantises).
    """
    count = 0
    for node in model.get_ops():
        if node.get_type_name() != "Convolution" or (scaled := _parent(node, 1)).get_type_name() != "Multiply":
            continue
        widened, weights = scaled, _parent(scaled)
        while weights.get_type_name() in ("Subtract", "Convert"):
            widened, weights = weights, _parent(weights)
        if weights.get_type_name() == "Constant" and weights.get_element_type() == ov.Type.i8:
            narrow = opset.constant(np.round(weights.data / 2).astype(np.int8))
            widened.input(0).replace_source_output(narrow.output(0))
            scaled.input(1).replace_source_output(opset.multiply(scaled.input_value(1), np.float32(2)).output(0))
            count += 1
    return count


def _parent(node: ov.Node, place: int = 0) -> ov.Node:
    return node.input_value(place).get_node()
