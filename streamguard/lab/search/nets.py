"""A design becomes a net: (N, 3, S, S) float32, normalised as `lab.model.normalised` does -> (N, 1) raw logit.

All have the same frame, :class:`Searched`: a view of the input, a body of convolutions, a pooling, one logit, and where
the design asks for it a second head, for training alone, that says where the face was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, cast

import torch
from torch import nn

from streamguard.lab.model import MEAN, SCALE, STD, build
from streamguard.lab.search.spaces import Design
from streamguard.lab.search.stems import residual

_MIDDLE, _SPREAD = MEAN[0] * SCALE, STD[0] * SCALE  # levels; every channel has the same
# The blocks of the paper's space, at a size that two cores train: three stages of two blocks, 32 to 128 channels.
_PAPER_BODY: Final = {"stages": 3, "depth": 2, "width": 32, "growth": 2.0, "kernel": 3, "activation": "relu",
                      "stem_stride": 2, "late": False, "stem": "rgb"}  # fmt: skip


class View(nn.Module):
    """How the net takes its input: ``fixed`` as it comes, ``picture`` normalised by itself, ``unit`` 0..1, ``levels``
    0..255."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) to the same."""
        if self.kind == "picture":
            middle = x.mean((2, 3), keepdim=True)
            spread = (x - middle).square().mean((2, 3), keepdim=True).sqrt()
            return (x - middle) / (spread + 0.05)
        if self.kind == "unit":
            return (x * _SPREAD + _MIDDLE) / 255
        return x * _SPREAD + _MIDDLE if self.kind == "levels" else x


class Pool(nn.Module):
    """(N, C, h, w) to (N, ``features``): ``mean``, ``mean+max``, or ``gem`` (F. Radenović et al., TPAMI 2018)."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind, self.features = kind, channels * (2 if kind == "mean+max" else 1)
        self.power = nn.Parameter(torch.tensor(3.0)) if kind == "gem" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if self.power is not None:
            return x.clamp(min=1e-4).pow(self.power).mean((2, 3)).pow(1 / self.power)
        mean = x.mean((2, 3))
        return torch.cat((mean, x.amax((2, 3))), 1) if self.kind == "mean+max" else mean


class Searched(nn.Module):
    """The frame of every searched net. ``frozen``: parts of ``body`` that stay as they are, statistics included."""

    def __init__(self, view: nn.Module, body: nn.Module, pool: nn.Module, head: nn.Sequential, mask: nn.Module | None,
                 frozen: Sequence[nn.Module] = ()) -> None:  # fmt: skip
        super().__init__()
        self.view, self.body, self.pool, self.drop = view, body, pool, head[0]
        self.classifier = head[1]
        self.mask = mask
        self._frozen = tuple(frozen)
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1) raw logits, positive = fake."""
        return cast(torch.Tensor, self.classifier(self.drop(self.pool(self.body(self.view(x))))))

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """:meth:`forward`, and (N, 1, h, w) logits of where the face was changed, if the net has that head."""
        seen = self.body(self.view(x))
        where = None if self.mask is None else self.mask(seen)
        return self.classifier(self.drop(self.pool(seen))), where

    def train(self, mode: bool = True) -> Self:
        """As torch's; what is frozen keeps its statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def build_design(design: Design, *, pretrained: bool = True) -> Searched:
    """The net of a design.

    Raises:
        InputMissing: it starts from ImageNet weights, which are not installed, and ``pretrained`` asks for them.
    """
    make = {"paper2025": _paper, "edge/pretrained": _truncated, "edge/scratch": _from_scratch}[design.space]
    net = make(design, pretrained)
    nn.init.zeros_(net.classifier.weight)  # a fresh net says nothing, whatever it is made of
    nn.init.zeros_(net.classifier.bias)
    return net.to(memory_format=torch.channels_last)


def parameters_of(net: Searched) -> int:
    """What ships: all but the head that only training has."""
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("mask."))


def _framed(view: str, body: nn.Module, channels: int, values: dict[str, Any], frozen: Sequence[nn.Module] = ()
            ) -> Searched:  # fmt: skip
    pool = Pool(values.get("pool", "mean"), channels)
    head = nn.Sequential(nn.Dropout(values.get("dropout", 0.25)), nn.Linear(pool.features, 1))
    mask = nn.Conv2d(channels, 1, 1) if values.get("mask", 0.0) else None
    return Searched(View(view), body, pool, head, mask, frozen)


def _paper(design: Design, pretrained: bool) -> Searched:
    view = "fixed" if design["normalise"] else "levels"
    if design["block"] == "efficient":
        lite = build(pretrained=pretrained)
        return _framed(view, _Lite(lite, 7, None), int(cast(Any, lite).num_features), {})
    if design["block"] == "vanilla":  # AutoKeras's first guess, as `lab.model` has it; here with the frame's parts
        body = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Dropout(0.25))  # fmt: skip
        side = (design.size - 4) // 2
        head = nn.Sequential(nn.Dropout(0.5), nn.Linear(64 * side * side, 1))
        return Searched(View(view), body, nn.Flatten(), head, None)
    values = {**_PAPER_BODY, "block": design["block"]}
    return _framed(view, *_stages(values), {})


def _from_scratch(design: Design, _: bool) -> Searched:
    values = dict(design.values)
    return _framed(str(values["input"]), *_stages(values), values)


def _truncated(design: Design, pretrained: bool) -> Searched:
    lite = cast(Any, build(pretrained=pretrained))
    keep = int(design["keep"])
    body = _Lite(lite, keep, residual(str(design["stem"])))
    channels = int(lite.num_features) if keep == 7 else _channels(lite.blocks[keep - 1])
    frozen = [body.stem, body.norm, *body.blocks[: int(design["frozen"])]] if design["frozen"] else []
    return _framed("fixed", body, channels, dict(design.values), frozen)


def _channels(stage: nn.Module) -> int:
    """Those that a stage of EfficientNet gives: its last convolution's."""
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)][-1].out_channels


class _Lite(nn.Module):
    """EfficientNet-Lite0 up to stage ``keep``; with 7, its last convolution too.

    A residual joins the stem by a convolution that starts at nothing: the net starts as ImageNet left it.
    """

    def __init__(self, lite: Any, keep: int, extra: nn.Module | None) -> None:
        super().__init__()
        self.stem, self.norm = lite.conv_stem, lite.bn1
        self.blocks = lite.blocks[:keep]
        self.last = nn.Sequential(lite.conv_head, lite.bn2) if keep == 7 else nn.Identity()
        self.extra, self.joined = extra, None
        if extra is not None:
            self.joined = nn.Conv2d(3, lite.conv_stem.out_channels, 3, 2, 1, bias=False)
            nn.init.zeros_(self.joined.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) to (N, C, h, w)."""
        seen = self.stem(x)
        if self.extra is not None and self.joined is not None:
            seen = seen + self.joined(self.extra(x))
        return self.last(self.blocks(self.norm(seen)))


def _stages(values: dict[str, Any]) -> tuple[nn.Module, int]:
    """The body of a net from scratch, and the channels that it gives."""
    act = nn.ReLU if values["activation"] == "relu" else nn.Hardswish
    extra = residual(values["stem"])
    width = int(values["width"])
    parts: list[nn.Module] = [] if extra is None else [_Beside(extra)]
    parts += [nn.Conv2d(3 if extra is None else 6, width, 3, values["stem_stride"], 1, bias=False),
              nn.BatchNorm2d(width), act()]  # fmt: skip
    for stage in range(int(values["stages"])):
        wider = width if stage == 0 else 8 * max(1, round(width * values["growth"] / 8))
        for block in range(int(values["depth"])):
            stride = 2 if block == 0 and not (stage == 0 and values["late"]) else 1
            parts.append(Block(width if block == 0 else wider, wider, stride, values, act))
        width = wider
    return nn.Sequential(*parts), width


class _Beside(nn.Module):
    """(N, 3, S, S) to (N, 6, S, S): the colours, and their residuals."""

    def __init__(self, extra: nn.Module) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return torch.cat((x, self.extra(x)), 1)


class Block(nn.Module):
    """One block of a family; a short cut goes round all but ``vanilla``.

    ``resnet``: He et al., CVPR 2016. ``xception``: two separable convolutions, Chollet, CVPR 2017. ``mbconv``: Sandler
    et al., CVPR 2018, with squeeze-and-excitation after Hu et al., CVPR 2018. ``dw7``: depthwise 7x7, then one wide
    layer, after Liu et al., CVPR 2022, with batch normalisation in place of theirs, which merges into a convolution.
    """

    def __init__(self, inside: int, outside: int, stride: int, values: dict[str, Any], act: type[nn.Module]) -> None:
        super().__init__()
        kind, kernel = values["block"], int(values.get("kernel", 7))
        make = {"vanilla": _plain, "resnet": _two, "xception": _separable, "mbconv": _inverted, "dw7": _large}[kind]
        self.way = nn.Sequential(*make(inside, outside, stride, kernel, values, act))
        self.short: nn.Module | None = None
        if kind != "vanilla":
            self.short = nn.Identity()
            if stride > 1 or inside != outside:
                self.short = nn.Sequential(*_conv(inside, outside, 1, stride))
        self.after = act() if kind == "resnet" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inside, h, w) to (N, outside, h / stride, w / stride)."""
        way = self.way(x)
        return cast(torch.Tensor, way if self.short is None else self.after(way + self.short(x)))


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outside)]


def _plain(inside: int, outside: int, stride: int, kernel: int, _: Any, act: type[nn.Module]) -> list[nn.Module]:
    return [*_conv(inside, outside, kernel, stride), act()]


def _two(inside: int, outside: int, stride: int, kernel: int, _: Any, act: type[nn.Module]) -> list[nn.Module]:
    return [*_conv(inside, outside, kernel, stride), act(), *_conv(outside, outside, kernel)]


def _separable(inside: int, outside: int, stride: int, kernel: int, _: Any, act: type[nn.Module]) -> list[nn.Module]:
    first = [*_conv(inside, inside, kernel, stride, inside), *_conv(inside, outside, 1), act()]
    return [*first, *_conv(outside, outside, kernel, 1, outside), *_conv(outside, outside, 1), act()]


def _inverted(inside: int, outside: int, stride: int, kernel: int, values: Any, act: type[nn.Module]
              ) -> list[nn.Module]:  # fmt: skip
    middle = inside * int(values["expand"])
    wide = [*_conv(inside, middle, 1), act(), *_conv(middle, middle, kernel, stride, middle), act()]
    squeeze = [_Squeeze(middle)] if values["squeeze"] else []
    return [*wide, *squeeze, *_conv(middle, outside, 1)]


def _large(inside: int, outside: int, stride: int, kernel: int, _: Any, act: type[nn.Module]) -> list[nn.Module]:
    deep = _conv(inside, inside, kernel, stride, inside)
    return [*deep, nn.Conv2d(inside, 3 * inside, 1), act(), *_conv(3 * inside, outside, 1)]


class _Squeeze(nn.Module):
    """Channels weighed by what the whole picture shows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(8, channels // 8)
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, narrow, 1), nn.ReLU(),
                                   nn.Conv2d(narrow, channels, 1), nn.Hardsigmoid())  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) to the same."""
        return cast(torch.Tensor, x * self.weigh(x))
