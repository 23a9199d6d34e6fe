"""Which orders a node heeds."""

import pytest

from streamguard.config import Config, StreamConfig
from streamguard.fleet.messages import Assigned, Grant, Order, Settings
from streamguard.fleet.tenant import Tenant

DOOR = {"door": Assigned(StreamConfig(name="door", uri="demo:"), Grant(1, 1))}
HALL = {"hall": Assigned(StreamConfig(name="hall", uri="demo:"), Grant(1, 2))}


def order(number, streams=None, *, term=1, boot="b1", heard=10.0, settings=None):
    return Order(term, number, boot, heard, 20.0, streams, settings)


@pytest.fixture
def tenant():
    return Tenant("b1")


def test_nothing_is_watched_without_a_lease(tenant):
    tenant.take(order(1, DOOR, heard=None))
    duty = tenant.duty(10.0)
    assert (duty.streams, duty.leased) == ({}, False)
    tenant.done(duty)
    assert tenant.applied == 0, "it has not done what was asked"
    tenant.take(order(1))
    duty = tenant.duty(29.9)
    assert (duty.streams, duty.leased) == (DOOR, True)
    tenant.done(duty)
    assert tenant.applied == 1
    assert tenant.duty(30.0).streams == {}


def test_the_newest_order_counts_however_late_the_others_come(tenant):
    tenant.take(order(2, HALL))
    tenant.take(order(1, DOOR))
    assert tenant.duty(11.0).streams == HALL
    tenant.take(order(3, {}))
    tenant.take(order(2, HALL))
    assert tenant.duty(11.0).streams == {}


def test_an_order_for_another_process_or_of_an_older_head_changes_nothing(tenant):
    tenant.take(order(1, DOOR, term=5))
    tenant.take(order(9, HALL, term=4, heard=1000.0))
    tenant.take(order(9, HALL, term=6, boot="b0", heard=1000.0))
    assert tenant.duty(11.0).streams == DOOR
    assert tenant.term == 5
    assert not tenant.duty(31.0).leased


def test_a_new_head_counts_anew_and_leaves_what_is_watched(tenant):
    tenant.take(order(7, DOOR))
    tenant.done(tenant.duty(11.0))
    assert tenant.applied == 7
    tenant.take(order(0, term=2, heard=None))
    assert (tenant.term, tenant.applied) == (2, 0)
    assert tenant.duty(11.0).streams == DOOR
    tenant.take(order(1, HALL, term=2))
    assert tenant.duty(11.0).streams == HALL


def test_what_was_done_for_an_older_head_is_not_said_to_the_new_one(tenant):
    tenant.take(order(7, DOOR))
    duty = tenant.duty(11.0)
    tenant.take(order(0, term=2, heard=None))
    tenant.done(duty)
    assert tenant.applied == 0


def test_settings_are_kept(tenant):
    settings = Settings("v1", Config())
    tenant.take(order(1, DOOR, settings=settings))
    tenant.take(order(2, DOOR))
    assert tenant.settings is settings
