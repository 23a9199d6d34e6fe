"""What ``lab train --start`` goes on from: another run's averaged net, or a shipped engine's fp32 graph.

An engine holds no training state: its graph has each normalisation multiplied into the convolution before it.
:func:`unfolded` takes the two apart again, so that the net says what the graph says, and steps of a usual length suit
its weights. Statistics of batches are gone for good, which is no loss to a net that holds them still
(:func:`streamguard.lab.train.settle`).

How an engine was trained stands in :data:`FILE` beside its manifest; ``lab export`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from streamguard.errors import EngineDamaged, EngineForeign
from streamguard.inference.engines import Engine, engine_folders, load_engine
from streamguard.lab.model import MEAN, SCALE, STD

FILE: Final = "training.json"
AGREEING: Final = 1e-3  # logits of graph and net may differ by so much: sums in another order
_WITH_WEIGHTS: Final = ("Conv", "Gemm", "BatchNormalization")


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of a net's training: steps, the learning rate that it began at, and what its forged pairs were."""

    steps: int
    rate: float
    families: str
    policy: str
    twins: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """The runs that made a net, the first one first, their seconds together, and the engines that they went on from
    (``name version (sha256...)``). ``whole``: no engine among them whose own training nobody wrote down."""

    stages: tuple[Stage, ...] = ()
    seconds: float = 0.0
    engines: tuple[str, ...] = ()
    whole: bool = True

    def then(self, stage: Stage, seconds: float) -> Lineage:
        """This, and one run more."""
        return Lineage((*self.stages, stage), self.seconds + seconds, self.engines, self.whole)

    def write(self, folder: Path) -> None:
        """Into ``folder``: an engine's, or a run's that goes on from one, which may be overwritten meanwhile."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def is_engine(start: Path) -> bool:
    """Whether ``start`` is an engine folder, or the name of a shipped engine; else it is a run folder."""
    named = not start.exists() and str(start) in {folder.name for folder in engine_folders()}
    return named or (start / "manifest.json").is_file()


def lineage_of(folder: Path) -> Lineage:
    """How the engine in ``folder`` was trained, itself named as the last of ``engines``.

    Raises:
        EngineDamaged: its :data:`FILE` can't be read.
    """
    engine = load_engine(folder)
    named = f"{engine.name} {engine.version} ({engine.sha256[:16]})"
    if not (engine.folder / FILE).is_file():
        return Lineage(engines=(named,), whole=False)
    try:
        told = read_lineage(engine.folder)
    except (ValueError, TypeError, KeyError) as error:
        raise EngineDamaged(f"engine '{engine.name}': '{engine.folder / FILE}' can't be read: {error!r}.") from error
    return replace(told, engines=(*told.engines, named))


def read_lineage(folder: Path) -> Lineage:
    """What :meth:`Lineage.write` wrote into ``folder``.

    Raises:
        ValueError, TypeError, KeyError: something else did.
    """
    told = json.loads((folder / FILE).read_text(encoding="utf-8"))
    stages = tuple(Stage(**stage) for stage in told["stages"])
    return Lineage(stages, float(told["seconds"]), tuple(told["engines"]), bool(told["whole"]))


def take(net: nn.Module, folder: Path) -> None:
    """Give ``net`` the weights of the engine in ``folder``; both then say the same of a face.

    Raises:
        EngineMissing, EngineDamaged: as :func:`~streamguard.inference.engines.load_engine`.
        EngineForeign: other pictures go in than the lab's nets take, or the graph is of another net.
    """
    engine = load_engine(folder)
    _refuse_other_pictures(engine)
    size, content = engine.input.width, engine.model("fp32")
    try:
        unfolded(net, onnx.load_from_string(content), size)
    except ValueError as error:
        raise EngineForeign(
            f"engine '{engine.name}' can't be gone on from: {error}. Name one of the same net."
        ) from error
    apart = _apart(net, content, size)
    if not apart <= AGREEING:
        raise EngineForeign(
            f"engine '{engine.name}' can't be gone on from: with its weights the net says logits that differ by "
            f"{apart:.3g}. Name one of the same net."
        )


def _refuse_other_pictures(engine: Engine) -> None:
    ours, theirs = (
        tuple(round(value, 4) for value in (scale, *mean, *std))
        for scale, mean, std in ((SCALE, MEAN, STD), (engine.input.scale, engine.input.mean, engine.input.std))
    )
    if ours != theirs:
        raise EngineForeign(
            f"engine '{engine.name}' takes pictures of scale, mean and std {theirs}; the lab's nets take {ours}."
        )


def unfolded(net: nn.Module, graph: onnx.ModelProto, size: int) -> None:
    """Layer for layer in the order of the calls, ``net`` takes the weights of ``graph``, for (N, 3, size, size).

    A normalisation that is still one is copied. Where it was multiplied into its convolution, each channel gets weights
    of RMS ``1 / sqrt(fan-in)``, and the normalisation the rest.

    Raises:
        ValueError: the layers of the two don't match; in words.
    """
    given = {one.name: torch.tensor(numpy_helper.to_array(one)) for one in graph.graph.initializer}
    wanted = {name for node in graph.graph.node if node.op_type in _WITH_WEIGHTS for name in node.input[1:]}
    if not given.keys() >= wanted:
        raise ValueError("its graph computes weights")
    fixed = [buffer for buffer in net.buffers() if buffer.ndim == 4]  # filters that are no part of training
    nodes = [
        [given[name] for name in node.input[1:]] for node in graph.graph.node
        if node.op_type in _WITH_WEIGHTS and not any(torch.equal(given[node.input[1]], one) for one in fixed)
    ]  # fmt: skip
    called = _called(net, size)
    with torch.no_grad():
        while called:
            name, layer = called.pop(0)
            norm = called[0][1] if called and isinstance(called[0][1], nn.BatchNorm2d) else None
            weight, *more = nodes.pop(0) if nodes else [torch.empty(0)]
            if weight.shape != layer.weight.shape:
                raise ValueError(f"its layer for '{name}' has weights {(*weight.shape,)}, not {(*layer.weight.shape,)}")
            if norm is not None and len(more) == 1 and layer.bias is None:
                _divide(layer, norm, weight, *more)
                called.pop(0)
            else:
                _copy(layer, [weight, *more])
    if nodes:
        raise ValueError(f"its graph has {len(nodes)} layers more than the net")


def _called(net: nn.Module, size: int) -> list[tuple[str, Any]]:
    """Name and module of everything with weights, in the order of the calls."""
    calls: list[tuple[str, Any]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _, name=name: calls.append((name, module)))
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))
    ]
    with _at_rest(net):
        net(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return calls


@contextmanager
def _at_rest(net: nn.Module) -> Iterator[None]:
    """Evaluation, without gradients; training goes on afterwards if it did."""
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        net.train(training)


def _copy(layer: Any, tensors: list[torch.Tensor]) -> None:
    """Weight, bias, and of a normalisation mean and variance: as ONNX orders them."""
    own = [layer.weight, layer.bias]
    if isinstance(layer, nn.BatchNorm2d):
        own += [layer.running_mean, layer.running_var]
    own = [one for one in own if one is not None]
    if len(own) != len(tensors):
        raise ValueError(f"a {type(layer).__name__} has {len(own)} tensors, its layer in the graph {len(tensors)}")
    for mine, one in zip(own, tensors, strict=True):
        mine.copy_(one)


def _divide(layer: nn.Conv2d, norm: nn.BatchNorm2d, weight: torch.Tensor, bias: torch.Tensor) -> None:
    rms = weight.square().mean(dim=(1, 2, 3)).sqrt()
    scale = torch.where(rms > 0, rms * weight[0].numel() ** 0.5, 1.0)
    layer.weight.copy_(weight / scale[:, None, None, None])
    norm.weight.copy_(scale)
    norm.bias.copy_(bias)
    cast(torch.Tensor, norm.running_mean).zero_()
    cast(torch.Tensor, norm.running_var).fill_(1 - norm.eps)


def _apart(net: nn.Module, content: bytes, size: int) -> float:
    """The most by which logits of net and graph differ, on pictures of noise."""
    faces = np.random.default_rng(0).uniform(-1, 1, (4, 3, size, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: faces})[0]
    with _at_rest(net):
        ours = net(torch.from_numpy(faces)).numpy()
    return float(np.abs(ours - theirs).max())
