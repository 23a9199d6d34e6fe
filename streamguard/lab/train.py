"""Train the base classifier: one loop, on one page.

A run folder holds config.json, log.jsonl (a line every :data:`LOG_EVERY` steps), last.pt (net, average,
optimiser: what ``--resume`` goes on from), and training.json if it went on from an engine: how that was trained.
Batches, dropout and schedule depend on seed and step, so that a resumed run of ``--steps`` equals an unbroken one; with
``--minutes`` the schedule follows the clock and it does not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from streamguard.errors import InputMissing, UsageError
from streamguard.frames import F32, U8
from streamguard.lab import policies
from streamguard.lab.augment import Crop
from streamguard.lab.batches import Batches, Mixture
from streamguard.lab.course import changed_in, located
from streamguard.lab.data import FaceStore, build_store
from streamguard.lab.dataset import Dataset
from streamguard.lab.forge import table
from streamguard.lab.forge.meshfile import build_meshes
from streamguard.lab.model import ARCHITECTURE, Ema, build, normalised, settle_cpu
from streamguard.lab.origin import FILE, Lineage, Stage, is_engine, lineage_of, read_lineage, take
from streamguard.lab.search.nets import build_design
from streamguard.lab.search.spaces import Design, read_design

LOG_EVERY: Final = 20
SAVE_EVERY: Final = 100
SETTLED_RATE: Final = 2e-4  # without statistics of its own batches, 5e-4 shakes a net off what it knows
EARLY: Final = ("conv_stem", "bn1", "blocks.0", "blocks.1")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyper-parameters, each with its reason."""

    size: int = 176  # 2-3 ms a face on one core; 224 costs 60 % more for faces that are rarely larger
    margin: float = 0.0  # DFDC's ready crops give no more without a mirrored border
    batch: int = 32  # 16 slows a step by half as much again per picture, 64 leaves too few steps
    pairs: float = 0.5  # half supplied fakes, half self-blended pairs
    steps: int = 3000
    minutes: float | None = None  # if set, the clock ends the run and drives the schedule
    seed: int = 1
    threads: int = 1
    rate: float = 5e-4  # AdamW from ImageNet weights; 1e-3 forgets them
    decay: float = 0.02
    warm_up: int = 100
    average: float = 0.997  # weights of about the last 300 steps
    smoothing: float = 0.04  # supplied labels are a little wrong; logits stay moderate
    pretrained: bool = True
    architecture: str = ARCHITECTURE
    twins: int = 0  # pictures that come again, stored once more; 8 make a step a fifth longer
    steady: float = 0.5  # weight of the squared difference of the two logits of such a picture
    families: str = table.DEFAULT  # of the forged pairs; see streamguard.lab.forge.table
    policy: str = policies.DEFAULT  # "paper" knows no compression, "forensic+cutout" hides parts of the face
    mask: float = 0.0  # weight of a searched net's second head, which says where a face was changed
    start: str | None = None  # run, or engine, whose net this one goes on from, as `settle` leaves it


_DEFAULT: Final = TrainConfig()


def train(  # noqa: PLR0913 - a command's options
    out: Annotated[Path, typer.Option(help="Run folder; faces.h5, shared by all runs, lies beside it.")],
    minutes: Annotated[
        float | None, typer.Option(min=0, help="End after this much training, whatever --steps.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Length of the run.")] = _DEFAULT.steps,
    size: Annotated[
        int | None,
        typer.Option(min=64, help=f"Side of the net's input, px; a multiple of 16, {_DEFAULT.size} by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and dropout.")] = _DEFAULT.seed,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads of the net; one more makes batches.")
    ] = _DEFAULT.threads,
    batch: Annotated[int, typer.Option(min=4, help="Pictures in a step; a multiple of 4.")] = _DEFAULT.batch,
    families: Annotated[
        str, typer.Option(help="Forged pairs: all, names with weights (blends:2,warp), or all,-warp.")
    ] = _DEFAULT.families,
    policy: Annotated[
        str | None,
        typer.Option(help="Augmentation: forensic, forensic+cutout or paper; by default the design's, else forensic."),
    ] = None,
    twins: Annotated[
        int, typer.Option(min=0, help="Pictures of a step that come again, stored once more, and ought to score alike.")
    ] = _DEFAULT.twins,
    design: Annotated[
        Path | None,
        typer.Option(help="winner.json of `lab search`: net, size and rate; its policy if none is named."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Run folder or engine whose net to start from; by default the ImageNet weights.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Train the base classifier. Data by $STREAMGUARD_DATA."""
    config = TrainConfig(
        size=size or _DEFAULT.size, batch=batch, steps=steps, minutes=minutes, seed=seed, threads=threads,
        families=families, twins=twins,
    )  # fmt: skip
    if design is not None:
        found = design_in(design)
        refuse_other_size(size, found, design)
        config = designed(config, found)
    if policy is not None:
        config = replace(config, policy=policy)
    if start is not None:
        config = replace(config, start=str(start), rate=SETTLED_RATE)
    policies.policy_of(config.policy)
    chosen = table.choose(families)
    store = build_store(Dataset.from_environment(), out.parent / "faces.h5")
    if not chosen.plain:
        build_meshes(store)
    run(store, out, config, resume=resume)


def run(store: FaceStore, out: Path, config: TrainConfig, *, resume: bool = False) -> Ema:
    """Train on batches of the store's fit part; as :func:`fit`."""
    return fit(Batches(store, mixture_of(config), config.steps), out, config, resume=resume)


def design_in(file: Path) -> Design:
    """What ``winner.json`` holds. Raises InputMissing if it does not exist, UsageError if it holds no design."""
    if not file.is_file():
        raise InputMissing(f"design '{file}' does not exist. `streamguard lab search` writes one.")
    return read_design(file.read_text(encoding="utf-8"))


def refuse_other_size(size: int | None, design: Design, file: Path) -> None:
    """Raises UsageError where ``--size`` was given and is not the design's own, which was searched with it."""
    if size not in (None, design.size):
        raise UsageError(f"--size {size}: the design '{file}' takes {design.size} px. Leave the option out.")


def designed(config: TrainConfig, design: Design) -> TrainConfig:
    """``config`` with the net of a design, and the hyper-parameters that were searched with it."""
    values = {name: design.values[name] for name in ("rate", "decay", "smoothing", "mask") if name in design.values}
    policy = design.values.get("augment")
    named = {"policy": policy} if isinstance(policy, str) else {}
    return replace(config, architecture=design.text, size=design.size, **values, **named)  # type: ignore[arg-type]


def net_of(config: TrainConfig, *, pretrained: bool) -> nn.Module:
    """The net that a config names: one of `lab.model`'s, or a searched design's."""
    if config.architecture.startswith("{"):
        return build_design(read_design(config.architecture), pretrained=pretrained)
    return build(pretrained=pretrained, architecture=config.architecture, size=config.size)


def mixture_of(config: TrainConfig) -> Mixture:
    """What the batches of such a run are drawn from."""
    return Mixture(
        batch=config.batch, pairs=config.pairs, crop=Crop(config.size, config.margin), seed=config.seed,
        families=config.families, policy=config.policy, twins=config.twins,
    )  # fmt: skip


def fit(
    batches: TorchDataset[tuple[U8, F32]], out: Path, config: TrainConfig, *, resume: bool = False, workers: int = 1
) -> Ema:
    """The loop. Returns the averaged net, which ``out/last.pt`` holds as well.

    ``batches``: batch number ``step`` as :class:`~streamguard.lab.batches.Batches` gives it, made by ``workers``
    processes beside this one; 0 where it costs nothing.

    Raises:
        InputMissing: ``resume`` without a ``last.pt``.
        EngineForeign: the engine to start from holds another net.
        UsageError: ``out`` holds a run already and ``resume`` is not set, or the configs differ.
    """
    settle_cpu(config.threads)
    torch.manual_seed(config.seed)
    pretrained = config.pretrained and config.start is None
    net = net_of(config, pretrained=pretrained).train()
    if config.start is not None:
        if not resume:
            _go_on(net, Path(config.start))
        settle(net)
    ema = Ema(net, config.average)
    optimiser = torch.optim.AdamW(_groups(net, config.decay), lr=config.rate, fused=True)
    first, spent = _begin(out, config, net, ema, optimiser) if resume else _fresh(out, config)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, config.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,  # a fork would inherit OpenMP's locks, and hang
    )
    started, losses = time.monotonic() - spent, []
    for step, (pictures, labels) in enumerate(loader, first):
        elapsed = time.monotonic() - started
        progress = step / config.steps
        if config.minutes is not None:
            progress = max(progress, elapsed / 60 / config.minutes)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(config, step, progress)
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout of a resumed run = of an unbroken one
        losses.append(_step(net, optimiser, pictures, labels, config))
        ema.update(net, step)
        done = step + 1 == config.steps or progress >= 1
        if (step + 1) % LOG_EVERY == 0 or done:
            _log(out, {"step": step + 1, "loss": sum(losses) / len(losses), "seconds": round(elapsed, 1)})
            losses.clear()
        if (step + 1) % SAVE_EVERY == 0 or done:
            _save(out, config, step + 1, time.monotonic() - started, net, ema, optimiser)
        if done:
            break
    return ema


def _go_on(net: nn.Module, start: Path) -> None:
    if is_engine(start):
        take(net, start)
    else:
        net.load_state_dict(load_state(start)["ema"])


def settle(net: nn.Module) -> None:
    """Hold still what a net that is far along has learnt for good: statistics everywhere, and the first layers whole.

    The first layers work on the largest pictures. Without their gradients, and without gathering statistics anew, a
    step takes half the time.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for name, module in net.named_modules():
        if name in EARLY:
            module.requires_grad_(False)


def rate_at(config: TrainConfig, step: int, progress: float) -> float:
    """Learning rate: linear warm-up, then half a cosine down to nothing."""
    warm = min(1.0, (step + 1) / max(1, config.warm_up))
    return config.rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _step(
    net: nn.Module, optimiser: torch.optim.Optimizer, pictures: torch.Tensor, labels: torch.Tensor, config: TrainConfig
) -> float:
    targets = labels * (1 - config.smoothing) + config.smoothing / 2
    if config.mask:
        found, where = net.both(normalised(pictures))
        logits, pairs = found[:, 0], 2 * round(config.batch * config.pairs / 2)  # the forged pairs come first
        changed = [changed_in(couple.numpy()) for couple in pictures[:pairs].unflatten(0, (-1, 2))]
        located_in = torch.from_numpy(np.stack([mask for one in changed for mask in (np.zeros_like(one), one)]))
        told = config.mask * located(where[:pairs], located_in)
    else:
        logits, told = net(normalised(pictures))[:, 0], 0.0
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets) + told
    if config.twins:  # after S. Zheng et al., "Improving the Robustness of Deep Neural Networks via Stability Training"
        loss = loss + config.steady * (logits[: config.twins] - logits[-config.twins :]).square().mean()
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and normalisation do not."""
    wide = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    narrow = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": wide, "weight_decay": decay}, {"params": narrow, "weight_decay": 0.0}]


def _fresh(out: Path, config: TrainConfig) -> tuple[int, float]:
    if (out / "last.pt").exists():
        raise UsageError(f"'{out}' holds a run already. Add --resume, or name another folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    if config.start is not None and is_engine(Path(config.start)):
        lineage_of(Path(config.start)).write(out)
    return 0, 0.0


def _begin(
    out: Path, config: TrainConfig, net: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    state = load_state(out)
    told = TrainConfig(**state["config"])
    if replace(told, threads=config.threads) != config:
        raise UsageError(f"run '{out}' was begun with {told}, not {config}. Use its own options, or another folder.")
    net.load_state_dict(state["net"])
    ema.net.load_state_dict(state["ema"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["seconds"])


def load_state(out: Path) -> dict[str, Any]:
    """What ``out/last.pt`` holds: config, step, seconds, net, ema, optimiser."""
    file = out / "last.pt"
    if not file.is_file():
        raise InputMissing(f"run folder '{out}' has no last.pt: nothing was trained there.")
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def trained(out: Path) -> tuple[nn.Module, TrainConfig, int]:
    """The averaged net of a run, its config, and the steps it took."""
    state = load_state(out)
    config = TrainConfig(**state["config"])
    net = net_of(config, pretrained=False)
    net.load_state_dict(state["ema"])
    return net.eval(), config, int(state["step"])


def lineage(out: Path) -> Lineage:
    """The runs that made a net, the first one first: each went on from the one before, or from an engine.

    Raises:
        InputMissing: a run that this one started from is gone.
    """
    state = load_state(out)
    config = TrainConfig(**state["config"])
    stage = Stage(int(state["step"]), config.rate, config.families, config.policy, config.twins)
    if (out / FILE).is_file():
        before = read_lineage(out)
    else:
        before = lineage(Path(config.start)) if config.start is not None else Lineage()
    return before.then(stage, float(state["seconds"]))


def _save(out: Path, config: TrainConfig, step: int, seconds: float, net: nn.Module, ema: Ema,
          optimiser: torch.optim.Optimizer) -> None:  # fmt: skip
    state = {"config": asdict(config), "step": step, "seconds": seconds, "net": net.state_dict(),
             "ema": ema.net.state_dict(), "optimiser": optimiser.state_dict()}  # fmt: skip
    torch.save(state, out / "last.pt.part")
    os.replace(out / "last.pt.part", out / "last.pt")  # never a half-written checkpoint


def _log(out: Path, line: dict[str, Any]) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    _LOG.info("step %(step)d  loss %(loss).4f  %(seconds)d s", line)
