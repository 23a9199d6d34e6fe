"""Nets of designs: every one runs, exports to what it was, and weighs what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("timm")
pytest.importorskip("onnx")

import torch

from streamguard.errors import UsageError
from streamguard.lab.export import Runner, export
from streamguard.lab.model import logits, normalised
from streamguard.lab.search.nets import build_design, parameters_of
from streamguard.lab.search.spaces import PAPER, PRETRAINED, SCRATCH
from streamguard.lab.search.stems import SRM, Bayar, Npr, Srm, residual
from streamguard.lab.search.zerocost import macs, naswot, proxies, synflow

pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]  # torch's tracing exporter is deprecated
TINY = {
    "size": 96, "stem": "rgb", "stem_stride": 2, "late": False, "block": "resnet", "stages": 3, "depth": 1, "width": 12,
    "growth": 1.5, "kernel": 3, "activation": "relu", "pool": "mean", "dropout": 0.0, "mask": 0.0, "input": "fixed",
    "augment": "forensic", "smoothing": 0.0, "average": True, "rate": 1e-3, "decay": 1e-3,
}  # fmt: skip
LITE = {"keep": 4, "size": 112, "stem": "rgb", "pool": "mean", "frozen": 0, "dropout": 0.0, "mask": 0.0,
        "augment": "forensic", "rate": 5e-4}  # fmt: skip


def scratch(**changed):
    values = {**TINY, **changed}
    if values["block"] == "mbconv":
        values = {"expand": 2, "squeeze": True, **values}
    if values["block"] == "dw7":
        del values["kernel"]
    return SCRATCH.design(values)


def shaken(net):
    """A net that says something: heads start at nothing, and residuals join at nothing."""
    torch.manual_seed(0)
    torch.nn.init.normal_(net.classifier.weight, std=0.1)
    return net.eval()


DESIGNS = [
    scratch(block="vanilla"),
    scratch(block="resnet", stem="srm", pool="gem", input="picture", activation="hardswish"),
    scratch(block="xception", stem="npr", pool="mean+max", input="unit"),
    scratch(block="mbconv", stem="bayar", activation="hardswish"),
    scratch(block="dw7", pool="gem"),
    scratch(late=True, stem_stride=1, depth=2, stages=4, mask=1.0),
    PRETRAINED.design({**LITE, "stem": "srm"}),
    PRETRAINED.design({**LITE, "keep": 7, "pool": "mean+max", "stem": "npr", "frozen": 2, "mask": 0.25}),
    PAPER.design({"block": "vanilla", "normalise": False, "augment": False}),
    PAPER.design({"block": "xception", "normalise": True, "augment": True}),
    PAPER.design({"block": "efficient", "normalise": True, "augment": True}),
]  # fmt: skip


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: f"{d.space}-{d.values.get('block', d.values.get('keep'))}")
def test_a_design_is_a_net_that_exports(design, tmp_path):
    net = shaken(build_design(design, pretrained=False))
    pictures = np.random.default_rng(0).integers(0, 256, (2, design.size, design.size, 3), np.uint8)
    told = logits(net, pictures).numpy()
    assert told.shape == (2,)
    assert np.isfinite(told).all()
    export(net, tmp_path / "model.onnx", design.size)
    assert np.abs(Runner(tmp_path / "model.onnx")(pictures) - told).max() < 1e-3 * max(1, np.abs(told).max())
    found = proxies(net, design.size, pictures)
    assert found["parameters"] == parameters_of(net) > 1000
    assert all(np.isfinite(value) for value in found.values())


def test_the_papers_net_has_the_size_that_it_names():
    net = build_design(PAPER.design({"block": "vanilla", "normalise": True, "augment": True}), pretrained=False)
    assert parameters_of(net) == 265_409


def test_a_fresh_net_says_nothing():
    net = build_design(scratch(), pretrained=False)
    assert logits(net, np.zeros((1, 96, 96, 3), np.uint8)).tolist() == [0.0]


def test_the_second_head_is_for_training_alone():
    net = build_design(scratch(mask=1.0), pretrained=False)
    plain = build_design(scratch(), pretrained=False)
    assert parameters_of(net) == parameters_of(plain)
    logit, where = net.both(torch.zeros(2, 3, 96, 96))
    assert logit.shape == (2, 1)
    assert where.shape == (2, 1, 6, 6)
    assert plain.both(torch.zeros(2, 3, 96, 96))[1] is None


def test_what_is_frozen_stays():
    net = build_design(PRETRAINED.design({**LITE, "frozen": 2}), pretrained=False).train()
    stem, last = net.body.stem.weight, net.body.blocks[3][-1].conv_pwl.weight
    assert not stem.requires_grad
    assert last.requires_grad
    before = net.body.norm.running_mean.clone()
    net(torch.randn(2, 3, 112, 112))
    assert torch.equal(net.body.norm.running_mean, before)


def test_a_residual_joins_a_pretrained_stem_at_nothing():
    torch.manual_seed(3)
    net = build_design(PRETRAINED.design({**LITE, "stem": "npr"}), pretrained=False)
    shaken(net)
    x = torch.randn(1, 3, 112, 112)
    with_it = net(x)
    net.body.extra = None
    assert torch.equal(net(x), with_it)


def test_constrained_filters_predict_the_centre():
    weight = Bayar().constrained()
    assert torch.allclose(weight.sum((2, 3)), torch.zeros(3, 3), atol=1e-5)
    assert torch.equal(weight[:, :, 2, 2], -torch.ones(3, 3))


def test_residuals_forget_what_is_smooth():
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32).contiguous()
    inner = (..., slice(4, -4), slice(4, -4))
    assert Srm()(ramp)[inner].abs().max() < 1e-4
    assert all(sum(map(sum, kernel)) == 0 for kernel, _ in SRM)
    doubled = torch.randn(1, 3, 16, 16).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert Npr()(doubled).abs().max() == 0  # enlarged by nearest neighbour: the trace that it looks for
    assert residual("rgb") is None
    with pytest.raises(UsageError, match="'laplace' is unknown"):
        residual("laplace")


def test_work_and_size_are_those_of_the_layers():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(4 * 64, 1))
    assert macs(net, 8) == 4 * 64 * 27 + 256


def test_naswot_prefers_units_that_tell_pictures_apart():
    rng = np.random.default_rng(0)
    varied = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    assert naswot(net, varied) > naswot(net, np.repeat(varied[:1], 8, axis=0))


def test_synflow_counts_every_way_through():
    """One weight a layer: the score is the product of the weights, twice (once a layer)."""
    net = torch.nn.Sequential()
    net.conv = torch.nn.Conv2d(3, 1, 1, bias=False)
    net.flat = torch.nn.Flatten()
    net.classifier = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.conv.weight, -2.0)
    assert synflow(net, 1) == pytest.approx(np.log(6.0 + 6.0), abs=1e-6)  # 3 inputs of 2, to a head of ones


def test_normalised_pictures_come_back_as_levels():
    from streamguard.lab.search.nets import View

    picture = np.full((1, 4, 4, 3), 200, np.uint8)
    assert View("levels")(normalised(picture)).allclose(torch.full((1, 3, 4, 4), 200.0), atol=1e-3)
    assert View("unit")(normalised(picture)).allclose(torch.full((1, 3, 4, 4), 200 / 255), atol=1e-5)
    assert View("picture")(normalised(picture)).abs().max() < 1e-3
