"""What is done less of, in which order, and when it is taken back: a fake clock, step by step."""

from itertools import pairwise

import pytest

from streamguard.vision.overload import LADDER, Overload, OverloadSettings, ladder

ORDER = [None, *["classification rate"] * 2, *["detection rate"] * 4, "drops"]


class Machine:
    """Ten turns a second; ``changes`` are (time, step, level)."""

    def __init__(self, steps=LADDER, **settings):
        self.overload = Overload(steps, OverloadSettings(**settings))
        self.now = 100.0
        self.changes = []

    def run(self, seconds, *, lost=0, waiting=False):
        """``lost`` of eleven due frames are given up at each turn."""
        for _ in range(round(seconds * 10)):
            pace = self.overload.turn(self.now, waiting=waiting)
            if pace is not None:
                self.changes.append((round(self.now - 100, 1), pace.step, self.overload.level))
            for index in range(11 - lost):
                self.overload.frame(lost=lost if index == 0 else 0)
            self.now += 0.1
        return self

    @property
    def levels(self):
        return [level for _, _, level in self.changes]


def test_the_steps_are_taken_in_the_stated_order():
    machine = Machine().run(30, lost=3, waiting=True)
    assert [step for _, step, _ in machine.changes] == ORDER[1:]
    assert machine.levels == [1, 2, 3, 4, 5, 6, 7]
    assert [time for time, _, _ in machine.changes] == pytest.approx([2.1 * turn for turn in range(1, 8)], abs=0.2)
    assert [pace.step for pace in LADDER] == ORDER


def test_no_step_asks_for_more_than_the_one_before():
    for one, other in pairwise(LADDER):
        assert other.lowest or not one.lowest
        assert other.lowest or other.ceiling < one.ceiling
        assert other.spread >= one.spread


def test_a_machine_that_keeps_up_does_all_that_is_asked_for():
    machine = Machine().run(60, waiting=False)
    assert machine.changes == []
    assert machine.overload.pace.step is None


def test_frames_lost_while_nothing_waits_are_no_overload():
    """A sender that delivers in bursts."""
    assert Machine().run(60, lost=5, waiting=False).changes == []


def test_waiting_without_a_loss_is_no_overload():
    assert Machine().run(60, lost=0, waiting=True).changes == []


def test_a_single_loss_is_an_accident():
    machine = Machine()
    machine.run(1, waiting=True)
    machine.overload.frame(lost=1)
    machine.run(10, waiting=True)
    assert machine.changes == []


def test_it_stays_where_it_is_enough():
    machine = Machine().run(4.4, lost=3, waiting=True)
    assert machine.overload.level == 2
    machine.run(9, waiting=False)
    assert machine.overload.level == 2


@pytest.mark.parametrize(("lost", "level"), [(1, 3), (2, 5), (3, 7)])
def test_no_searches_are_given_up_for_a_smaller_loss(lost, level):
    """Of eleven due frames: for one a sixth of the searches is given up, for two half of them, for three all that can
    be."""
    machine = Machine().run(60, lost=lost, waiting=True)
    assert machine.overload.level == level


def test_losses_that_are_too_few_for_a_step_keep_the_steps_that_were_taken():
    machine = Machine()
    for _ in range(30):
        machine.run(1.9, waiting=True)
        machine.run(0.1, lost=5, waiting=True)  # 5 of 220
    assert machine.overload.level == 2
    machine.run(13, waiting=True)
    assert machine.overload.level == 1


def test_a_step_is_taken_back_after_a_calm_while_one_at_a_time():
    machine = Machine().run(6.5, lost=3, waiting=True)
    assert machine.levels == [1, 2, 3]
    machine.run(40)
    assert machine.levels == [1, 2, 3, 2, 1, 0]
    times = [time for time, _, _ in machine.changes]
    assert all(later - earlier >= 10 for earlier, later in pairwise(times[2:]))
    assert machine.overload.pace.step is None


def test_taking_back_too_early_waits_longer_the_next_time():
    machine = Machine()
    eased = []
    for _ in range(4):
        machine.run(2.5, lost=3, waiting=True)
        before = machine.now
        while machine.overload.level == 1:
            machine.run(0.1)
        eased.append(machine.now - before)
    assert eased == sorted(eased)
    assert eased[-1] > 3 * eased[0]


def test_a_calm_machine_trusts_itself_again():
    machine = Machine()
    for _ in range(3):
        machine.run(2.5, lost=3, waiting=True)
        while machine.overload.level:
            machine.run(0.1)
    machine.run(200)
    machine.run(4.5, lost=3, waiting=True)
    assert machine.overload.level == 2
    machine.run(200)
    assert machine.overload.level == 0


def test_the_waiting_is_bounded():
    machine = Machine(longest=20.0)
    for _ in range(6):
        machine.run(2.5, lost=3, waiting=True)
        before = machine.now
        while machine.overload.level:
            machine.run(0.1)
    assert machine.now - before < 25


def test_the_last_step_is_the_last():
    machine = Machine().run(120, lost=9, waiting=True)
    assert machine.overload.level == len(LADDER) - 1
    assert machine.levels == [1, 2, 3, 4, 5, 6, 7]


def test_an_idle_machine_turns_seldom():
    overload = Overload()
    assert overload.turn(0.0, waiting=False) is None
    assert overload.turn(5000.0, waiting=False) is None
    assert overload.level == 0


def test_every_frame_never_looks_less_often():
    assert [pace.step for pace in ladder("every-frame")] == [None, "drops"]
    assert all(pace.spread == 1 and not pace.lowest for pace in ladder("every-frame"))
    assert ladder("latency") == ladder("throughput") == LADDER
