"""Plans: kept, found again, built again by name when they don't fit; and built for real, in a child process."""

import json
import logging
import re
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from streamguard.errors import EngineDamaged, EngineError
from streamguard.inference import plans
from streamguard.inference.builder import Profile
from streamguard.inference.engines import load_engine
from streamguard.inference.plans import PlanCache, build_plan, plan_key
from tests.inference.rtx import require_rtx


def key(engine="face-yolov8n", **changes):
    made = plan_key(load_engine(engine), "fp16", "tensorrt_rtx", "1.7.1", "8.9", gpu="", profile=Profile(1, 8, 8))
    return replace(made, **changes)


class Builder:
    """Counts how often it was asked."""

    def __init__(self, plan=b"a plan\nof two lines"):
        self.plan, self.count = plan, 0

    def __call__(self):
        self.count += 1
        return self.plan


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "plans")


def test_a_plan_is_built_once(cache, caplog):
    build = Builder()
    with caplog.at_level(logging.INFO):
        assert [cache.get(key(), build) for _ in range(3)] == [build.plan] * 3
    assert build.count == 1
    assert "face-yolov8n.fp16.tensorrt_rtx.8.9.plan' is not there yet: it is built now, once" in caplog.text
    assert PlanCache(cache.folder).get(key(), Builder(b"")) == build.plan


def test_the_folder_is_its_owners_alone(cache):
    cache.get(key(), Builder())
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert [path.name for path in cache.folder.iterdir()] == [key().file]
    assert stat.S_IMODE((cache.folder / key().file).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "0" * 64}, r"model is '[0-9a-f]{12}\.\.\.', not '0{12}\.\.\.'"),
        ({"version": "1.8.0"}, "version is '1.7.1', not '1.8.0'"),
        ({"profile": "1-4-8"}, "profile is '1-8-8', not '1-4-8'"),
        ({"gpu": "Other"}, "gpu is 'none', not 'Other'"),
        ({"graph": 2}, "graph is '1', not '2'"),
        (
            {"input": "images 640x640", "platform": "Plan-9"},
            "input is .*, not 'images 640x640', platform is .*'Plan-9'",
        ),
    ],
)
def test_a_stale_plan_is_built_again_and_its_difference_named(cache, caplog, change, said):
    cache.get(key(), Builder(b"old"))
    build = Builder(b"new")
    assert cache.get(key(**change), build) == b"new"
    assert build.count == 1
    assert re.search(f"is built again: it is of another kind: {said}", caplog.text)
    assert cache.get(key(**change), Builder()) == b"new"


def test_plans_of_other_engines_variants_and_devices_live_side_by_side(cache):
    keys = [key(), key(engine="deepfake-steady"), key(variant="int8"), key(capability="8.6"), key(library="tensorrt")]
    for number, one in enumerate(keys):
        cache.get(one, Builder(b"%d" % number))
    assert [cache.get(one, Builder()) for one in keys] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:-1], "it is damaged"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "it is damaged"),
        (lambda content: content[:30], "it is no plan of StreamGuard"),
        (lambda content: b"", "it is no plan of StreamGuard"),
        (lambda content: b"vtrt" + bytes(1000), "it is no plan of StreamGuard"),
        (lambda content: content.replace(b"plan 1", b"plan 9", 1), "it is no plan of StreamGuard"),
        (lambda content: b'x\n"text"\n' + bytes(5), "it is no plan of StreamGuard"),
    ],
)
def test_a_damaged_or_foreign_file_is_built_again_by_name(cache, caplog, spoil, said):
    cache.get(key(), Builder())
    path = cache.folder / key().file
    path.write_bytes(spoil(path.read_bytes()))
    build = Builder(b"new")
    assert cache.get(key(), build) == b"new"
    assert f"plan '{path}' is built again: {said}" in caplog.text


def test_a_discarded_plan_is_gone(cache, caplog):
    cache.get(key(), Builder())
    cache.discard(key(), "the library can't load it")
    cache.discard(key(), "twice does no harm")
    assert "is built again: the library can't load it" in caplog.text
    assert cache.get(key(), Builder(b"new")) == b"new"


def test_a_folder_that_takes_no_plan_only_costs_the_next_start(tmp_path, caplog):
    (tmp_path / "plans").write_text("a file")
    assert PlanCache(tmp_path / "plans").get(key(), Builder(b"new")) == b"new"
    assert "can't be kept" in caplog.text


def test_a_build_that_fails_leaves_nothing(cache):
    def fail():
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        cache.get(key(), fail)
    assert not cache.folder.exists()


def test_a_child_builds_a_plan():
    require_rtx()
    assert build_plan(load_engine("face-yolov8n"), "fp16", "tensorrt_rtx", ("8.9",))[:4] == b"vtrt"


@pytest.mark.parametrize(
    ("module", "capability", "said"),
    [
        ("tensorrt_rtx", "9.0", r"serves no GPU of compute capability 9\.0; it serves 7\.5, 8\.0, .* Choose backend"),
        ("tensorrt_nobody_has", "8.9", "No module named 'tensorrt_nobody_has'"),
    ],
)
def test_a_childs_refusal_arrives(module, capability, said):
    require_rtx()
    with pytest.raises(EngineError, match=said):
        build_plan(load_engine("face-yolov8n"), "fp32", module, (capability,))


def test_a_childs_crash_is_named(monkeypatch):
    monkeypatch.setattr(plans, "_CHILD", "import os, sys; print('[TRT] out of memory', file=sys.stderr); os.abort()")
    with pytest.raises(EngineError, match=r"ended with code -6 while building 'face-yolov8n' \(fp16\): \[TRT\] out of"):
        build_plan(load_engine("face-yolov8n"), "fp16", "tensorrt_rtx", ("8.9",))


def test_a_child_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(plans, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(plans, "_PATIENCE", 0.2)
    with pytest.raises(EngineError, match="did not build 'face-yolov8n'"):
        build_plan(load_engine("face-yolov8n"), "fp16", "tensorrt_rtx", ("8.9",))


def test_a_damaged_engine_reaches_no_child(tmp_path):
    engine = load_engine("face-yolov8n")
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"garbage")
    variants = dict(engine.variants) | {"fp32": replace(engine.variants["fp32"], file=broken)}
    with pytest.raises(EngineDamaged):
        build_plan(replace(engine, variants=variants), "fp16", "tensorrt_rtx", ("8.9",))


def test_a_users_script_is_not_run_a_second_time(tmp_path):
    require_rtx()
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "print('once')\n"
        "from streamguard.inference.engines import load_engine\n"
        "from streamguard.inference.plans import build_plan\n"
        "print(build_plan(load_engine('face-yolov8n'), 'fp32', 'tensorrt_rtx', ('8.6',))[:4])\n"
    )
    command = [sys.executable, str(script), json.dumps(sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "once\nb'vtrt'\n", done.stderr
