"""Cues of the paper's related work that look at one picture: LBP histograms, and a GAN's discriminator.

* LBP: T. Ojala et al., "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with Local Binary
  Patterns", IEEE TPAMI 24(7), 2002; eight neighbours, uniform patterns, one histogram for each of 4x4 cells.
* DCGAN: A. Radford et al., ICLR 2016 (arXiv:1511.06434), trained on real faces alone; a face that its discriminator
  takes for made is called fake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from streamguard.frames import F32, U8
from streamguard.lab.augment import Crop
from streamguard.lab.baselines import regression
from streamguard.lab.model import normalised
from streamguard.lab.pool import Pool, PoolConfig
from streamguard.lab.search.material import reduced
from streamguard.lab.subjects import Subject

_AROUND: Final = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_CELLS: Final = 4
GAN_SIDE: Final = 32  # px: what two cores train
LOSS: Final = nn.functional.binary_cross_entropy_with_logits


def _uniform() -> npt.NDArray[np.int64]:
    """(256,): the place of each pattern: the 58 with at most two changes round the circle, then all others."""
    table, place = np.full(256, 58, np.int64), 0
    for pattern in range(256):
        turned = ((pattern << 1) | (pattern >> 7)) & 255
        if (pattern ^ turned).bit_count() <= 2:
            table[pattern] = place
            place += 1
    return table


UNIFORM: Final = _uniform()


def lbp(rgb: U8) -> F32:
    """(944,) float32: the share of each of 59 uniform patterns in each of 16 cells of a (S, S, 3) uint8 picture."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    inner = grey[1:-1, 1:-1]
    height, width = inner.shape
    codes = np.zeros((height, width), np.int64)
    for bit, (dy, dx) in enumerate(_AROUND):
        codes |= (grey[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] >= inner).astype(np.int64) << bit
    places = UNIFORM[codes]
    found = []
    for rows in np.array_split(places, _CELLS, axis=0):
        for cell in np.array_split(rows, _CELLS, axis=1):
            found.append(np.bincount(cell.ravel(), minlength=59) / cell.size)
    return np.concatenate(found).astype(np.float32)


def lbp_subject(pool: Pool, config: PoolConfig) -> Subject:
    """Logistic regression on LBP histograms of a pool's couples."""
    return regression("LBP histogram", lbp, pool, config)


@dataclass(frozen=True, slots=True)
class GanConfig:
    """``steps`` of ``batch`` real faces, Adam as the paper of DCGAN has it."""

    steps: int = 600
    batch: int = 32
    rate: float = 2e-4
    width: int = 32
    noise: int = 64
    seed: int = 1


def discriminator(width: int) -> nn.Sequential:
    """(N, 3, 32, 32) to (N, 1) logits, positive = a real face."""
    layers: list[nn.Module] = []
    channels = 3
    for wider in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, wider, 4, 2, 1, bias=False)]
        layers += ([nn.BatchNorm2d(wider)] if channels > 3 else []) + [nn.LeakyReLU(0.2)]
        channels = wider
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4), nn.Flatten())


def generator(width: int, noise: int) -> nn.Sequential:
    """(N, noise, 1, 1) to (N, 3, 32, 32), -1..1."""
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(noise, 4 * width, 4, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
    ]
    for inside, outside in ((4 * width, 2 * width), (2 * width, width)):
        layers += [nn.ConvTranspose2d(inside, outside, 4, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


def train_gan(reals: U8, config: GanConfig, file: Path) -> nn.Module:
    """The discriminator of a DCGAN trained on (N, S, S, 3) uint8 ``reals``, kept in ``file``."""
    torch.manual_seed(config.seed)
    judge, maker = discriminator(config.width), generator(config.width, config.noise)
    if file.is_file():
        judge.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        return judge.eval()
    small = normalised(reduced(reals, GAN_SIDE))
    ways = [torch.optim.Adam(net.parameters(), config.rate, (0.5, 0.999)) for net in (judge, maker)]
    for _ in range(config.steps):
        real = small[torch.randint(len(small), (config.batch,))]
        made = maker(torch.randn(config.batch, config.noise, 1, 1))
        ones, zeros = torch.ones(config.batch, 1), torch.zeros(config.batch, 1)
        _step(ways[0], LOSS(judge(real), 0.9 * ones) + LOSS(judge(made.detach()), zeros))
        _step(ways[1], LOSS(judge(made), ones))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(judge.state_dict(), file)
    return judge.eval()


def _step(way: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    way.zero_grad()
    cast(Any, loss).backward()
    way.step()


def gan_subject(judge: nn.Module, crop: Crop) -> Subject:
    """What the discriminator takes for made."""
    return Subject("DCGAN discriminator", crop, _judged(judge))


def _judged(judge: nn.Module) -> Callable[[U8], F32]:
    @torch.no_grad()
    def score(pictures: U8) -> F32:
        parts = [judge(normalised(reduced(pictures[i : i + 64], GAN_SIDE)))[:, 0] for i in range(0, len(pictures), 64)]
        return np.asarray(-torch.cat(parts).numpy() if parts else np.zeros(0), np.float32)

    return score
