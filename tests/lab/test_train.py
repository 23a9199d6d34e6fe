"""Training that resumes exactly, and engines that are what the net was."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("timm")
pytest.importorskip("onnx")

import onnx
import torch
from onnx import numpy_helper

from streamguard.decision.calibration import operating_point
from streamguard.errors import InputMissing, UsageError
from streamguard.inference.engines import load_engine
from streamguard.lab import calibrate, cli
from streamguard.lab import export as files
from streamguard.lab import train as train_module
from streamguard.lab.calibrate import Rule
from streamguard.lab.engine import EngineConfig, write_engine
from streamguard.lab.model import Ema, build, logits, normalised
from streamguard.lab.train import (
    EARLY,
    TrainConfig,
    _step,
    design_in,
    designed,
    lineage,
    load_state,
    rate_at,
    run,
    trained,
)

# torch's tracing exporter and the quantiser announce deprecations of their own: not ours to fix.
pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]
MADE = EngineConfig(each=4, minutes=4, created="2026-01-01", machine="a test")
FEW = {"default": Rule(0.9, 0.98, 0.5, 1.0), "strict": Rule(0.8, 0.995, 1.0, 2.0)}  # what four minutes can tell
WINNER = json.dumps({
    "space": "edge/pretrained", "augment": "paper", "dropout": 0.4, "frozen": 0, "keep": 4, "mask": 0.25,
    "pool": "mean+max", "rate": 8e-4, "size": 112, "stem": "srm",
})  # fmt: skip
TINY = TrainConfig(size=32, batch=8, steps=4, warm_up=2, pretrained=False)


@pytest.fixture(scope="module")
def straight(made_store, tmp_path_factory):
    """A run of four steps."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    run(made_store, out, TINY)
    return out


@pytest.fixture(scope="module")
def second(made_store, straight, tmp_path_factory):
    """A run of two steps that goes on from it."""
    out = tmp_path_factory.mktemp("runs") / "second"
    run(made_store, out, replace(TINY, start=str(straight), steps=2, rate=1e-4))
    return out


def test_a_resumed_run_equals_an_unbroken_one(made_store, straight, tmp_path, monkeypatch):
    from streamguard.lab import train

    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    real, calls = train._step, []

    def until_third(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(train, "_step", until_third)
    with pytest.raises(KeyboardInterrupt):
        run(made_store, tmp_path / "broken", TINY)
    monkeypatch.setattr(train, "_step", real)
    assert load_state(tmp_path / "broken")["step"] == 2
    run(made_store, tmp_path / "broken", TINY, resume=True)
    whole, resumed = load_state(straight), load_state(tmp_path / "broken")
    assert resumed["step"] == 4
    for name, tensor in whole["ema"].items():
        torch.testing.assert_close(resumed["ema"][name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_run_goes_on_from_another_ones_net(straight, second):
    before, after = load_state(straight)["ema"], load_state(second)["net"]
    still = [name for name in before if name.startswith(EARLY) or "running" in name]
    assert len(still) > 100
    for name in still:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0, msg=name)
    assert not torch.equal(after["conv_head.weight"], before["conv_head.weight"])


def test_twins_are_drawn_together():
    """The more their difference weighs, the more alike two views of a picture score; a plain net shows it soonest."""
    drawn = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (8, 8, 8, 3), generator=drawn, dtype=torch.uint8)
    views = (pictures[:4].int() + torch.randint(-20, 21, (4, 8, 8, 3), generator=drawn)).clamp(0, 255).to(torch.uint8)
    batch, labels = torch.cat((pictures, views)), torch.tensor([0.0, 1.0] * 6)
    apart = {}
    for steady in (0.0, 5.0):
        torch.manual_seed(2)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for _ in range(60):
            _step(net, optimiser, batch, labels, replace(TINY, twins=4, steady=steady))
        found = net(normalised(batch))[:, 0]
        assert (found > 0).tolist() == (labels > 0).tolist()
        apart[steady] = float((found[:4] - found[-4:]).square().mean())
    assert apart[5.0] < apart[0.0] / 2


def test_the_lineage_counts_every_run(made_store, second, tmp_path):
    found = lineage(second)
    assert [(stage.steps, stage.rate) for stage in found.stages] == [(4, TINY.rate), (2, 1e-4)]
    assert (found.engines, found.whole) == ((), True)
    with pytest.raises(InputMissing, match="nowhere"):
        run(made_store, tmp_path / "third", replace(TINY, start=str(tmp_path / "nowhere"), steps=2))


def test_a_run_folder_is_not_overwritten(made_store, straight, tmp_path):
    with pytest.raises(UsageError, match="holds a run already"):
        run(made_store, straight, TINY)
    with pytest.raises(UsageError, match="was begun with"):
        run(made_store, straight, TrainConfig(size=32, batch=4, steps=4, pretrained=False), resume=True)
    with pytest.raises(InputMissing, match="nothing was trained there"):
        trained(tmp_path)


def test_the_log_has_a_line_for_the_end(straight):
    lines = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    assert math.isfinite(lines[-1]["loss"])
    assert json.loads((straight / "config.json").read_text())["size"] == 32


def test_the_rate_warms_up_and_ends_at_nothing():
    config = TrainConfig(steps=1000, warm_up=10, rate=1.0)
    assert rate_at(config, 0, 0.0) == pytest.approx(0.1)
    assert rate_at(config, 500, 0.5) == pytest.approx(0.5)
    assert rate_at(config, 999, 1.0) == pytest.approx(0.0)


def test_a_fresh_net_says_nothing_and_its_average_follows():
    net = build(pretrained=False)
    assert logits(net, np.zeros((2, 32, 32, 3), np.uint8)).tolist() == [0.0, 0.0]
    ema = Ema(net, 0.5)
    torch.nn.init.ones_(net.get_submodule("classifier").bias)
    ema.update(net, 100)
    assert float(ema.net.get_submodule("classifier").bias) == pytest.approx(0.5)


def test_normalised_is_what_the_manifest_says():
    grey = normalised(np.full((1, 2, 2, 3), 127, np.uint8))
    assert grey.shape == (1, 3, 2, 2)
    assert float(grey.abs().max()) < 1e-6


def test_export_gives_the_same_logits(straight, tmp_path):
    net, config, steps = trained(straight)
    assert steps == 4
    torch.nn.init.normal_(net.get_submodule("classifier").weight, std=0.1)
    files.export(net, tmp_path / "model.onnx", config.size)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    found = files.Runner(tmp_path / "model.onnx")(pictures)
    assert np.abs(found - logits(net, pictures).numpy()).max() < 1e-4
    assert "Pad" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}


def lenient(patch, loss=1.0, temperature=1.0):
    """Few pictures, minutes of fifteen seconds and a net that has learnt nothing in four steps will do."""
    from streamguard.lab import engine as lab_engine

    patch.setattr(lab_engine, "minutes", partial(lab_engine.minutes, length=15.0))
    patch.setattr(lab_engine, "LARGEST_LOSS", loss)
    patch.setattr(lab_engine, "QUANTISED_ON", 1)
    patch.setattr(calibrate, "POINTS", FEW)
    patch.setattr(lab_engine, "_probed", lambda *_: {"probe_supplied": 0.5, "probe_pairs": 0.5})
    patch.setattr("streamguard.lab.statistics.RESAMPLES", 20)
    patch.setattr("streamguard.lab.calibrate.platt", lambda *_: (temperature, 0.0))


@pytest.fixture(scope="module")
def engine(made_store, straight, tmp_path_factory):
    """A run made into an engine folder, whatever its figures."""
    with pytest.MonkeyPatch.context() as patch:
        lenient(patch)
        out = tmp_path_factory.mktemp("engines") / "deepfake-steady"
        write_engine(made_store, straight, out, MADE)
    return out


def test_int8_is_symmetric_and_signed(engine):
    graph = onnx.load(engine / "model.int8.onnx").graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    points = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert points
    for node in points:
        assert tensors[node.input[2]].dtype == np.int8
        assert not tensors[node.input[2]].any()
    quantised = {n.output[0] for n in points}
    convs = [n for n in graph.node if n.op_type == "Conv"][files.KEPT_FLOAT :]
    assert len(convs) > 40
    assert all(n.input[0] in quantised and n.input[1] in quantised for n in convs)
    assert all(tensors[n.input[2]].dtype == np.float32 for n in convs if len(n.input) > 2)


def test_the_runtime_takes_the_engine(engine):
    loaded = load_engine(engine)
    assert set(loaded.variants) == {"fp32", "int8"}
    assert loaded.model("fp32")
    for points in (loaded.manifest["operating_points"], loaded.manifest["variants"]["int8"]["operating_points"]):
        assert operating_point({"operating_points": points}, "default").rise > 0
        assert "nothing is guaranteed" in points["default"]["promise"]
    assert (engine / "LICENSE").read_text().startswith("deepfake-steady: licence")
    assert "# deepfake-steady 0.1.0" in (engine / "CARD.md").read_text()


def test_the_manifest_has_these_keys(engine):
    manifest = json.loads((engine / "manifest.json").read_text())
    assert list(manifest) == [
        "name", "version", "task", "created", "variants", "input", "preprocessing", "output", "rate",
        "operating_points", "license",
    ]  # fmt: skip
    assert manifest["preprocessing"] == {
        "kind": "face-square", "resampler": "halving", "margin": 0.0, "border": "reflect101",
    }  # fmt: skip
    assert set(manifest["variants"]["fp32"]) == {"file", "sha256", "calibration"}
    assert manifest["output"] == {"name": "logit", "kind": "logit"}


def test_a_searched_design_is_trained_and_exported_by_the_same_road(made_store, tmp_path, monkeypatch):
    lenient(monkeypatch)
    design = tmp_path / "winner.json"
    design.write_text(WINNER)
    config = designed(replace(TINY, families="self-blended,-openforensics,-stylegan"), design_in(design))
    assert (config.size, config.policy, config.mask) == (112, "paper", 0.25)
    run(made_store, tmp_path / "run", config)
    write_engine(made_store, tmp_path / "run", tmp_path / "deepfake-nas", MADE)
    loaded = load_engine(tmp_path / "deepfake-nas")
    assert (loaded.name, loaded.input.width, set(loaded.variants)) == ("deepfake-nas", 112, {"fp32", "int8"})
    found = files.Runner(tmp_path / "deepfake-nas/model.onnx", 1)
    net, pictures = trained(tmp_path / "run")[0], np.random.default_rng(3).integers(0, 255, (3, 112, 112, 3), np.uint8)
    assert np.abs(found(pictures) - logits(net, pictures).numpy()).max() < 1e-4
    text = (tmp_path / "deepfake-nas/CARD.md").read_text()
    assert f"A net that `lab search` found (`{design_in(design).text}`)" in text
    assert "| stylegan | ground of forgeries only: its fakes were not shown | 4 |" in text
    assert "| dfdc | real and fake (mixed swaps), ground of forgeries | 8 |" in text


def test_int8_that_loses_too_much_does_not_ship(made_store, straight, tmp_path, monkeypatch):
    lenient(monkeypatch, loss=-9.0)
    write_engine(made_store, straight, tmp_path / "e", MADE)
    assert not (tmp_path / "e/model.int8.onnx").exists()
    assert set(json.loads((tmp_path / "e/manifest.json").read_text())["variants"]) == {"fp32"}
    assert "does not ship" in (tmp_path / "e/CARD.md").read_text()


def test_models_can_stay_while_all_else_is_made_anew(made_store, straight, engine, tmp_path, monkeypatch):
    lenient(monkeypatch, temperature=2.0)
    kept, again = tmp_path / "e", replace(MADE, keep_models=True, version="0.2.0")
    with pytest.raises(UsageError, match=r"e/model\.onnx, .*e/model\.int8\.onnx is not there"):
        write_engine(made_store, straight, kept, again)
    kept.mkdir()
    models = {name: (engine / name).read_bytes() for name in ("model.onnx", "model.int8.onnx")}
    for name, content in models.items():
        (kept / name).write_bytes(content)
    write_engine(made_store, straight, kept, again)
    assert {name: (kept / name).read_bytes() for name in models} == models
    before, after = (json.loads((folder / "manifest.json").read_text()) for folder in (engine, kept))
    assert after["version"] == "0.2.0"
    assert [v["sha256"] for v in after["variants"].values()] == [v["sha256"] for v in before["variants"].values()]
    assert after["variants"]["fp32"]["calibration"]["temperature"] == 2.0
    assert "--keep-models" in (kept / "CARD.md").read_text()


def test_quantising_needs_pictures(tmp_path):
    with pytest.raises(UsageError, match="got none"):
        files.quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", np.zeros((0, 32, 32, 3), np.uint8))


def test_what_is_named_beside_a_design(tmp_path, monkeypatch):
    """A policy that is named counts; another size is no part of the design, and refused."""
    design, begun = tmp_path / "winner.json", []
    design.write_text(WINNER)
    monkeypatch.setattr(train_module, "build_store", lambda *_: None)
    monkeypatch.setattr(train_module, "run", lambda store, out, config, *, resume: begun.append(config))
    monkeypatch.setattr(train_module.Dataset, "from_environment", lambda: None)
    words = ["train", "--out", str(tmp_path / "run"), "--design", str(design)]
    for more in ((), ("--policy", "forensic"), ("--size", "112")):
        assert cli.run([*words, *more]) == 0
    assert [(config.size, config.policy) for config in begun] == [(112, "paper"), (112, "forensic"), (112, "paper")]
    with pytest.raises(UsageError, match=r"--size 176: the design '.*winner\.json' takes 112 px"):
        cli.run([*words, "--size", "176"])
    with pytest.raises(UsageError, match="--policy 'none' is unknown"):
        cli.run([*words, "--policy", "none"])
    assert len(begun) == 3
