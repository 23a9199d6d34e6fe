"""The line in front of a model: slots, batches, and what is shown of them."""

from queue import SimpleQueue

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamguard.inference.backend import Completion
from streamguard.metrics import Metrics
from streamguard.models import ModelLine

PICTURE = np.zeros((4, 4, 3), np.uint8)


class Device:
    name, variant, variants = "openvino", "int8", ("int8",)

    def __init__(self, slots, batch):
        self.slots, self.preferred_batch = slots, batch
        self.shapes = SimpleQueue()

    def submit(self, batch, token):
        self.shapes.put((batch.shape, batch.dtype))


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def test_a_batch_is_one_array_and_a_slot_is_taken_until_it_is_back(metrics):
    device = Device(slots=1, batch=4)
    line = ModelLine("detect", device, 0.0, metrics)
    for stream in "abc":
        line.batcher.put(stream, stream, 1.0)
    assert line.due == 1.0
    assert line.take(1.0) == ["a", "b", "c"]
    line.submit([PICTURE] * 3, "token")
    assert device.shapes.get() == ((3, 4, 4, 3), np.uint8)
    line.batcher.put("a", "a", 2.0)
    assert line.take(2.0) == []
    assert line.due is None, "a free slot is waited for, not the clock"
    line.completed(Completion("token", np.zeros((3, 1), np.float32), None, 0.25))
    assert line.take(2.0) == ["a"]
    value = metrics.registry.get_sample_value
    assert value("streamguard_batch_size_sum", {"stage": "detect"}) == 3
    assert value("streamguard_stage_duration_seconds_sum", {"stage": "detect"}) == 0.25


def test_what_waits_is_shown(metrics):
    line = ModelLine("classify", Device(slots=1, batch=1), 0.0, metrics)
    depth = {"stage": "classify"}
    assert metrics.registry.get_sample_value("streamguard_queue_depth", depth) == 0
    for index in range(3):
        line.batcher.put("a", index, 0.0)
    line.tell()
    assert metrics.registry.get_sample_value("streamguard_queue_depth", depth) == 3
    line.batcher.drop("a")
    line.tell()
    assert metrics.registry.get_sample_value("streamguard_queue_depth", depth) == 0


def test_a_change_of_backend_is_told_once(metrics):
    device = Device(slots=1, batch=1)
    line = ModelLine("detect", device, 0.0, metrics)
    assert not line.changed()
    device.variant = "fp32"
    assert line.changed()
    assert not line.changed()
