"""What a net sees beside the colours: residuals in which the content of a face is gone and the traces of making it
stay.

All take (N, 3, S, S) float32, normalised to about -1..1, and keep its size; residuals are enlarged until a few levels
fill the range.

* ``srm``: three high-pass filters of J. Fridrich and J. Kodovsky, "Rich Models for Steganalysis of Digital Images",
  IEEE TIFS 7(3), 2012, as P. Zhou et al. use them (CVPR 2018, arXiv:1805.04953). Fixed.
* ``npr``: every pixel less the first of its block of 2x2, after C. Tan et al., "Rethinking the Up-Sampling Operations
  in CNN-based Generative Network", CVPR 2024 (arXiv:2312.10461). Fixed.
* ``bayar``: learnt filters whose centre is -1 and whose rest sums to 1, after B. Bayar and M. Stamm, "Constrained
  Convolutional Neural Networks", IEEE TIFS 13(11), 2018.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from streamguard.errors import UsageError

_GAIN: Final = 16.0  # eight levels of 255 become 1
_FIRST: Final = ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0))
_SECOND: Final = ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1))
_THIRD: Final = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
SRM: Final = ((_FIRST, 4.0), (_SECOND, 12.0), (_THIRD, 2.0))


class Srm(nn.Module):
    """(N, 3, S, S): a residual a filter, of the mean of the colours."""

    kernels: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.stack([torch.tensor(kernel, dtype=torch.float32) / by for kernel, by in SRM])
        self.register_buffer("kernels", kernels[:, None].repeat(1, 3, 1, 1) / 3 * _GAIN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return nn.functional.conv2d(x, self.kernels, padding=2).clamp(-1.0, 1.0)


class Npr(nn.Module):
    """(N, 3, S, S): a residual a colour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class. S is even."""
        first = x[:, :, ::2, ::2]
        return ((x - nn.functional.interpolate(first, scale_factor=2.0, mode="nearest")) * _GAIN).clamp(-1.0, 1.0)


class Bayar(nn.Module):
    """(N, 3, S, S): three learnt prediction errors of 5x5."""

    centre: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 5, 5) * 0.02)
        centre = torch.zeros(1, 1, 5, 5)
        centre[..., 2, 2] = 1
        self.register_buffer("centre", centre)

    def constrained(self) -> torch.Tensor:
        """(3, 3, 5, 5): each filter with -1 in its centre, the rest summing to 1."""
        rest = self.weight * (1 - self.centre)
        rest = rest + (1 - rest.sum((2, 3), keepdim=True)) / 24 * (1 - self.centre)
        return rest - self.centre

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return nn.functional.conv2d(x, self.constrained() * (_GAIN / 3), padding=2).clamp(-1.0, 1.0)


def residual(name: str) -> nn.Module | None:
    """The module of a stem's name; None for the colours alone. Raises UsageError for another name."""
    if name == "rgb":
        return None
    if name not in ("srm", "npr", "bayar"):
        raise UsageError(f"a stem called '{name}' is unknown. Known: rgb, srm, npr, bayar.")
    return {"srm": Srm, "npr": Npr, "bayar": Bayar}[name]()
