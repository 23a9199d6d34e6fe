"""Both sides of a lease: the head's belief always outlasts the node's right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.fleet.lease import MARGIN, Lease, Tenancy


def test_a_lease_runs_from_the_stamp_that_the_head_sent_back():
    lease = Lease()
    assert not lease.holds(0.0)
    lease.heard(100.0, 20.0)
    assert lease.holds(119.99)
    assert not lease.holds(120.0)
    lease.heard(90.0, 20.0)
    assert lease.holds(119.99), "what comes late makes it no shorter"
    lease.end()
    assert not lease.holds(0.0)


def test_a_tenancy_is_over_a_margin_after_the_last_report():
    tenancy = Tenancy(20.0)
    assert tenancy.over(0.0), "nothing was given"
    tenancy.report(50.0)
    assert not tenancy.over(50.0 + 20.0 + MARGIN)
    assert tenancy.over(50.0 + 20.2 + MARGIN + 0.01)
    tenancy.report(40.0)
    assert not tenancy.over(71.0)
    tenancy.end()
    assert tenancy.over(0.0)


@given(
    length=st.floats(3.0, 3600.0),
    offset=st.floats(-1e6, 1e6),
    rate=st.floats(0.995, 1.005),
    made=st.floats(0.0, 1e4),
    there=st.floats(0.0, 100.0),
    back=st.floats(0.0, 1e4),
)
def test_whatever_the_clocks_and_the_delays_the_head_believes_for_longer(length, offset, rate, made, there, back):
    """A report is made at ``made``, arrives ``there`` later, and the order that says so comes ``back`` later still."""

    def node(time):
        return offset + rate * time

    tenancy, lease = Tenancy(length), Lease()
    tenancy.report(made + there)
    lease.heard(node(made), length)
    over = made + there + length * 1.01 + MARGIN + 1e-3
    assert tenancy.over(over)
    assert not lease.holds(node(over))
    assert not lease.holds(node(over + back))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_node_that_hears_in_time_holds_on(share):
    lease = Lease()
    for beat in range(100):
        lease.heard(float(beat), 3.0)
        assert lease.holds(beat + 3.0 * share)
