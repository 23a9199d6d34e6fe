"""Capacity by what the streams take."""

from streamguard.fleet.capacity import EXPECTED, CapacityMeter


def run(meter, start, seconds, streams, cores, overload=0):
    """Let streams take that many cores; the time afterwards."""
    for second in range(round(seconds)):
        meter.note(start + second, (start + second) * cores, streams, overload=overload)
    return start + seconds


def test_before_anything_is_measured_it_goes_by_what_is_usual():
    assert CapacityMeter(cores=2, load=0.8).streams == int(2 * 0.8 / EXPECTED)


def test_what_streams_take_is_measured():
    meter = CapacityMeter(cores=4, load=0.75)
    run(meter, 0.0, 12.0, streams=2, cores=0.5)
    assert meter.streams == 12
    run(meter, 100.0, 200.0, streams=2, cores=1.0)
    assert meter.streams == 6, "the new figure in time"


def test_one_measurement_among_many_does_not_say_it_all():
    meter = CapacityMeter(cores=10, load=1.0)
    run(meter, 0.0, 60.0, streams=1, cores=0.5)
    assert meter.streams == 20
    meter.note(60.0, 30.0, 1, overload=0)
    meter.note(66.0, 30.0 + 6.0, 1, overload=0)
    assert 13 <= meter.streams < 20


def test_what_runs_while_streams_come_or_go_is_not_counted():
    meter = CapacityMeter(cores=4, load=1.0)
    before = meter.streams
    for second in range(30):
        meter.note(float(second), second * 4.0, second % 3, overload=0)
    assert meter.streams == before


def test_no_stream_tells_nothing():
    meter = CapacityMeter(cores=4, load=1.0)
    before = meter.streams
    run(meter, 0.0, 30.0, streams=0, cores=3.0)
    assert meter.streams == before


def test_a_stream_too_heavy_for_the_machine_still_has_a_place():
    meter = CapacityMeter(cores=1, load=0.8)
    run(meter, 0.0, 30.0, streams=1, cores=1.0)
    assert meter.streams == 1


def test_an_overload_that_no_core_explains_takes_one_stream_less_for_five_minutes():
    meter = CapacityMeter(cores=64, load=0.8)
    now = run(meter, 0.0, 20.0, streams=8, cores=1.0)
    assert meter.streams > 100
    now = run(meter, now, 5.0, streams=8, cores=1.0, overload=1)
    assert meter.streams == 7
    now = run(meter, now, 5.0, streams=7, cores=1.0, overload=2)
    assert meter.streams == 6
    now = run(meter, now, 290.0, streams=6, cores=1.0)
    assert meter.streams == 6
    run(meter, now, 20.0, streams=6, cores=1.0)
    assert meter.streams > 100


def test_time_that_is_not_measured_costs_no_division_by_nothing():
    meter = CapacityMeter(cores=2, load=0.8)
    run(meter, 0.0, 30.0, streams=3, cores=0.0)
    assert meter.streams > 1000
