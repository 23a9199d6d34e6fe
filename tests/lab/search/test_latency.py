"""Times that a busy machine does not spoil."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from streamguard.lab.search.latency import WARM, Stopwatch, least, ratio
from streamguard.lab.search.nets import build_design
from tests.lab.search.test_nets import scratch

pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]  # torch's tracing exporter is deprecated


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


def test_a_net_is_timed_as_it_would_be_served():
    watch = Stopwatch(reference_ms=2.0, rounds=5)
    found, ms = watch(build_design(scratch(), pretrained=False), 96)
    assert found > 0
    assert ms == pytest.approx(2 * found)
    assert Stopwatch(rounds=2).reference_ms > 0
