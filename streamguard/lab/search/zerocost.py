"""What is said of a net before it is trained: its size, its work, and two scores that cost nothing.

* ``naswot``: how differently the net's units answer to different pictures (J. Mellor et al., "Neural Architecture
  Search without Training", ICML 2021, arXiv:2006.04647).
* ``synflow``: how much flows through its weights (H. Tanaka et al., NeurIPS 2020, arXiv:2006.05467; as a score of nets
  by M. Abdelfattah et al., ICLR 2021, arXiv:2101.08134).

They are not searched by: the report holds them against the plain count of parameters, which is what they have to beat.
"""

from __future__ import annotations

import copy
import math
from typing import Final

import torch
from torch import nn

from streamguard.frames import U8
from streamguard.lab.model import normalised
from streamguard.lab.search.nets import Searched, parameters_of

_UNITS: Final = (nn.ReLU, nn.ReLU6, nn.Hardswish)
PROXIES: Final = ("parameters", "macs", "naswot", "synflow")


def proxies(net: Searched, size: int, pictures: U8) -> dict[str, float]:
    """All of :data:`PROXIES`, by name. ``pictures``: (N, S, S, 3) uint8 RGB of any faces."""
    return {"parameters": float(parameters_of(net)), "macs": float(macs(net, size)),
            "naswot": naswot(net, pictures), "synflow": synflow(net, size)}  # fmt: skip


@torch.no_grad()
def macs(net: nn.Module, size: int) -> int:
    """Multiplications of one picture, in convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    _watched(net, count, (nn.Conv2d, nn.Linear), torch.zeros(1, 3, size, size))
    return total


@torch.no_grad()
def naswot(net: nn.Module, pictures: U8) -> float:
    """Logarithm of the determinant of the kernel of the units' signs; the more pictures are told apart, the larger."""
    kernel = torch.zeros(len(pictures), len(pictures), dtype=torch.float64)

    def compare(_: nn.Module, __: object, output: torch.Tensor) -> None:
        on = (output.flatten(1) > 0).to(torch.float32)
        kernel.add_((on @ on.T + (1 - on) @ (1 - on).T).to(torch.float64) / on.shape[1])

    _watched(net, compare, _UNITS, normalised(pictures))
    return float(torch.linalg.slogdet(kernel + 1e-6 * torch.eye(len(pictures), dtype=torch.float64)).logabsdet)


def synflow(net: nn.Module, size: int) -> float:
    """Logarithm of the sum of weight times gradient, every weight taken positive and the input all ones."""
    value, flow = _flow(net, size)
    return value + flow


def _flow(net: nn.Module, size: int) -> tuple[float, float]:
    """Logarithms of the value, and of the sum of weight times gradient over that value: their product would
    overflow."""
    net = copy.deepcopy(net).double().eval()
    for parameter in net.parameters():
        parameter.requires_grad_(True)
        parameter.data.abs_()
    head = net.get_submodule("classifier")
    nn.init.ones_(head.get_parameter("weight"))  # a fresh head is zero: nothing would flow
    value = torch.log(net(torch.ones(1, 3, size, size, dtype=torch.float64)).sum().clamp(min=1e-300))
    value.backward()
    flow = sum(float((p.detach() * p.grad).abs().sum()) for p in net.parameters() if p.grad is not None)
    return float(value.detach()), math.log(max(flow, 1e-300))


def _watched(net: nn.Module, hook: object, kinds: tuple[type[nn.Module], ...], x: torch.Tensor) -> None:
    """One picture's way through ``net`` with ``hook`` at every module of these kinds."""
    was = net.training
    handles = [m.register_forward_hook(hook) for m in net.modules() if isinstance(m, kinds)]
    try:
        net.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
        net.train(was)
