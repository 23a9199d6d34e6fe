"""What a net costs, in ratio to one whose cost does not change."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from streamguard.lab.search.latency import Stopwatch
from streamguard.lab.search.nets import build_design
from tests.lab.search.test_nets import scratch

pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]  # torch's tracing exporter is deprecated


def test_a_net_is_timed_as_it_would_be_served():
    watch = Stopwatch(reference_ms=2.0, rounds=5)
    found, ms = watch(build_design(scratch(), pretrained=False), 96)
    assert found > 0
    assert ms == pytest.approx(2 * found)
    assert Stopwatch(rounds=2).reference_ms > 0
