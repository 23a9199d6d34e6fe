"""Times that a busy machine does not spoil, in a process that may die."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper

from streamguard.errors import InputUnreadable
from streamguard.lab.search import timing
from streamguard.lab.search.timing import TRIES, WARM, Model, least, ratio, timed

pytestmark = pytest.mark.lab


def convolutions(count, size=64):
    """A made net of so many 3x3 convolutions."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, size, size)) for name in ("n0", f"n{count}")]
    weights = helper.make_tensor("w", TensorProto.FLOAT, (3, 3, 3, 3), [0.1] * 81)
    nodes = [helper.make_node("Conv", [f"n{i}", "w"], [f"n{i + 1}"], pads=[1, 1, 1, 1]) for i in range(count)]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return Model(made.SerializeToString(), size)


class Machine:
    """A clock that runs ``slow`` times as long for whatever is done now."""

    def __init__(self, slow=lambda call: 1.0):
        self.now, self.calls, self.slow = 0.0, 0, slow

    def work(self, seconds):
        def run():
            self.now += seconds * self.slow(self.calls)
            self.calls += 1

        return run

    def __call__(self):
        return self.now


def test_what_slows_both_changes_nothing():
    for slow in (lambda _: 1.0, lambda _: 7.0, lambda call: 1.0 + call // 10):
        machine = Machine(slow)
        assert ratio(machine.work(0.003), machine.work(0.002), clock=machine) == pytest.approx(1.5, rel=0.1)


def test_a_hiccup_is_not_the_time():
    machine = Machine(lambda call: 100.0 if call == 2 * WARM + 4 else 1.0)
    assert ratio(machine.work(0.002), machine.work(0.002), clock=machine) == pytest.approx(1.0)
    assert least(machine.work(0.002), clock=machine) == pytest.approx(2.0)


def test_a_longer_net_takes_longer():
    found = timed(convolutions(40), convolutions(4), rounds=9)
    assert found.ratio > 2
    assert found.reference_ms > 0


@pytest.mark.parametrize("deaths", [TRIES - 1, TRIES])
def test_a_process_that_dies_is_asked_again(monkeypatch, deaths):
    real, asked = subprocess.run, []

    def run(command, **options):
        asked.append(command)
        if len(asked) <= deaths:
            command = ["sh", "-c", "echo 'double free or corruption' >&2; kill -ABRT $$"]
        return real(command, **options)

    monkeypatch.setattr(timing.subprocess, "run", run)
    if deaths < TRIES:
        assert timed(convolutions(2), convolutions(2), rounds=2).ratio > 0
    else:
        with pytest.raises(InputUnreadable, match="ended with -6, and said: double free"):
            timed(convolutions(2), convolutions(2), rounds=2)
    assert len(asked) == TRIES


def test_a_model_that_is_none_is_told():
    with pytest.raises(InputUnreadable, match="ended with 1"):
        timed(Model(b"nothing", 64), convolutions(1), rounds=1)


def test_a_process_that_hangs_is_told(monkeypatch):
    monkeypatch.setattr(timing, "LIMIT", 0.01)
    with pytest.raises(InputUnreadable, match=r"a model of 64 px could not be timed within 0\.01 s"):
        timed(convolutions(1), convolutions(1), rounds=1)
