"""Training that goes on from an engine: the net says what the engine said, and the card knows where it came from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("timm")
pytest.importorskip("onnx")

import onnx
import torch
from torch import nn

from streamguard.errors import EngineDamaged, EngineForeign, EngineMissing, InputMissing
from streamguard.inference.engines import load_engine
from streamguard.lab import export as files
from streamguard.lab import origin
from streamguard.lab.batches import Batches
from streamguard.lab.model import build, logits
from streamguard.lab.origin import FILE, Lineage, Stage, is_engine, lineage_of, take, unfolded
from streamguard.lab.train import EARLY, TrainConfig, design_in, designed, fit, lineage, load_state, mixture_of, net_of

pytestmark = pytest.mark.lab
NAS = load_engine("deepfake-nas").folder
STAGE = Stage(9, 5e-4, "all", "forensic", 8)


@pytest.fixture(scope="module")
def of_its_own(tmp_path_factory):
    """A net whose every number was drawn, a dead channel included, and the engine that it was exported to."""
    folder = tmp_path_factory.mktemp("engines") / "drawn"
    folder.mkdir()
    torch.manual_seed(3)
    net = build(pretrained=False).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
        net.get_submodule("classifier").weight.normal_(0, 0.1)
        net.get_submodule("bn1").weight[4] = 0
    files.export(net, folder / "model.onnx", 64)
    facts = files.Facts("drawn", "0.3.0", "2026-01-01", 64, 0.0, {"fp32": (1.0, 0.0)},
                        {"fp32": {"default": {"threshold": 1.0, "promise": "Made for a test."}}})  # fmt: skip
    files.write_manifest(folder, files.manifest({"fp32": folder / "model.onnx"}, facts))
    return net, folder


def test_the_net_says_what_the_engine_says_at_any_size(of_its_own):
    theirs, folder = of_its_own
    ours = build(pretrained=False).train()
    take(ours, folder)
    assert ours.training, "it was in training before"
    assert all(parameter.requires_grad for parameter in ours.parameters())
    for size in (64, 96):
        pictures = np.random.default_rng(size).integers(0, 255, (3, size, size, 3), np.uint8)
        assert np.abs(logits(ours.eval(), pictures).numpy() - logits(theirs, pictures).numpy()).max() < 1e-4


def test_steps_of_a_usual_length_suit_its_weights(of_its_own):
    """Merged into its convolution, a normalisation leaves weights of any length; taken apart, they are as at first."""
    net = build(pretrained=False)
    take(net, of_its_own[1])
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            rms = layer.weight.detach().square().mean(dim=(1, 2, 3)).sqrt() * layer.weight[0].numel() ** 0.5
            assert ((rms - 1).abs() < 1e-4).logical_or(rms == 0).all()
    assert torch.count_nonzero(net.get_submodule("conv_stem").weight.flatten(1).any(1)) == 31, "the dead one stays dead"


def test_a_shipped_searched_net_is_gone_on_from():
    """Its first normalisation is no convolution's, and some of its filters are no part of training."""
    net = net_of(designed(TrainConfig(), design_in(NAS / "winner.json")), pretrained=False)
    take(net, NAS)
    pictures = np.random.default_rng(1).integers(0, 255, (2, 112, 112, 3), np.uint8)
    assert np.abs(logits(net.eval(), pictures).numpy() - files.Runner(NAS / "model.onnx", 1)(pictures)).max() < 1e-3


def test_a_run_goes_on_from_an_engine(made_store, of_its_own, tmp_path):
    folder = tmp_path / "drawn"
    shutil.copytree(of_its_own[1], folder)
    Lineage().then(STAGE, 60.0).write(folder)
    config = TrainConfig(size=32, batch=8, steps=1, warm_up=2, start=str(folder))
    fit(Batches(made_store, mixture_of(config), config.steps), tmp_path / "run", config, workers=0)
    before = build(pretrained=False)
    take(before, folder)
    after, told = load_state(tmp_path / "run")["net"], before.state_dict()
    assert all(torch.equal(after[name], told[name]) for name in told if name.startswith(EARLY) or "running" in name)
    assert not torch.equal(after["conv_head.weight"], told["conv_head.weight"])
    found = lineage(tmp_path / "run")
    assert found.stages == (STAGE, Stage(1, config.rate, config.families, config.policy, 0))
    assert found.engines == (f"drawn 0.3.0 ({load_engine(folder).sha256[:16]})",)
    assert found.whole
    assert found.seconds > 60
    shutil.rmtree(folder)
    assert lineage(tmp_path / "run") == found, "the engine may have been replaced meanwhile, by this very run's"


def test_what_nobody_wrote_down_is_not_made_up(of_its_own, tmp_path):
    folder = of_its_own[1]
    assert lineage_of(folder) == Lineage((), 0.0, (f"drawn 0.3.0 ({load_engine(folder).sha256[:16]})",), whole=False)
    broken = tmp_path / "drawn"
    shutil.copytree(folder, broken)
    (broken / FILE).write_text('{"stages": [{"steps": 1}]}')
    with pytest.raises(EngineDamaged, match=r"engine 'drawn': '.*training\.json' can't be read"):
        lineage_of(broken)


def test_what_is_written_is_read_again(of_its_own, tmp_path):
    folder = tmp_path / "drawn"
    shutil.copytree(of_its_own[1], folder)
    written = Lineage((STAGE,), 12.5, ("older 0.1.0 (abc)",))
    written.write(folder)
    found = lineage_of(folder)
    assert found == replace(written, engines=("older 0.1.0 (abc)", found.engines[-1]))


@pytest.mark.parametrize("name", ["deepfake-steady", "deepfake-nas"])
def test_the_shipped_training_is_that_of_the_card(name):
    engine = load_engine(name)
    told, card = lineage_of(engine.folder), " ".join((engine.folder / "CARD.md").read_text().split())
    steps, minutes = sum(stage.steps for stage in told.stages), round(told.seconds / 60)
    assert f"for {steps} steps of 32 pictures ({minutes} minutes" in card
    for stage in told.stages:
        assert f"{stage.steps} at {stage.rate:.3g} on `{stage.families}` (`{stage.policy}`" in card


def test_another_net_is_refused_by_name(of_its_own, tmp_path, monkeypatch):
    net, folder = build(pretrained=False), of_its_own[1]
    with pytest.raises(EngineForeign, match=r"'deepfake-nas' can't be gone on from: its layer for 'conv_stem' has"):
        take(net, NAS)
    with pytest.raises(EngineForeign, match=r"'face-yolov8n' takes pictures of scale, mean and std \(255\.0, 0\.0"):
        take(net, load_engine("face-yolov8n").folder)
    with pytest.raises(EngineForeign, match="layers more than the net"):
        take(nn.Sequential(net.get_submodule("conv_stem"), net.get_submodule("bn1")), folder)
    with pytest.raises(EngineForeign, match="a Conv2dSame has 1 tensors, its layer in the graph 2"):
        take(nn.Sequential(net.get_submodule("conv_stem")), folder)
    monkeypatch.setattr(origin, "_divide", lambda *_: None)
    with pytest.raises(EngineForeign, match="logits that differ by"):
        take(build(pretrained=False), folder)


def test_a_graph_that_computes_its_weights_is_refused(of_its_own):
    graph = onnx.load(of_its_own[1] / "model.onnx")
    del graph.graph.initializer[0]
    with pytest.raises(ValueError, match="its graph computes weights"):
        unfolded(build(pretrained=False), graph, 64)


def test_what_is_an_engine_and_what_a_run(of_its_own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for start in (of_its_own[1], NAS):
        assert is_engine(start)
    assert is_engine(Path("deepfake-nas"))
    Path("deepfake-nas").mkdir()
    assert not is_engine(Path("deepfake-nas")), "a folder here goes before a shipped name"
    with pytest.raises(InputMissing, match="nothing was trained there"):
        load_state(Path("deepfake-nas"))
    with pytest.raises(EngineMissing):
        take(build(pretrained=False), tmp_path / "nowhere")
    assert json.loads((NAS / FILE).read_text())["whole"]
