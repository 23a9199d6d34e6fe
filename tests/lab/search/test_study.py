"""Whose turn it is, who holds a trial, and what a foreign or damaged file is called."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("optuna")

from optuna.trial import TrialState

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab.search.spaces import Choice, Range, Space
from streamguard.lab.search.study import DATABASE, MOST_REFUSED, REFUSED, Bracket, Lock, Studies

pytestmark = pytest.mark.lab
SPACE = Space("edge/made", (Choice("block", ("a", "b")), Range("rate", 0.1, 1.0)))
BRACKETS = [Bracket("edge/made", "tpe", 1), Bracket("edge/made", "random", 1)]


def opened(out, trials=3, space=SPACE, brackets=BRACKETS):
    out.mkdir(exist_ok=True)
    return Studies(out, {space.name: space}, brackets, trials, maximise=True)


def finish(claim, score=0.5):
    claim.space.draw(claim.trial)
    claim.finish(TrialState.COMPLETE, score)


def test_brackets_take_turns_until_each_has_its_trials(tmp_path):
    studies, order = opened(tmp_path), []
    while (claim := studies.claim()) is not None:
        with claim:
            order.append(claim.bracket.sampler)
            finish(claim, 0.1 * len(order))
    assert order == ["tpe", "random"] * 3
    assert [trial.value for trial in studies.trials("edge/made/tpe/1")] == pytest.approx([0.1, 0.3, 0.5])


def test_a_trial_that_was_left_is_taken_up_first(tmp_path):
    with opened(tmp_path).claim() as claim:
        left = claim.space.draw(claim.trial)
        claim.trial.report(0.4, 1)
    with opened(tmp_path).claim() as again:
        assert again.trial.number == claim.trial.number
        assert again.space.draw(again.trial) == left
        assert again.known.intermediate_values == {1: 0.4}


def test_a_trial_that_somebody_holds_is_let_be(tmp_path):
    with opened(tmp_path).claim() as first, opened(tmp_path).claim() as second:
        assert (first.bracket.sampler, second.bracket.sampler) == ("tpe", "random")


def test_a_killed_process_lets_go(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from streamguard.lab.search.study import Lock
        lock = Lock(Path(sys.argv[1]))
        lock.take()
        print("held", flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "lock")]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"held\n"
        lock = Lock(tmp_path / "lock")
        assert not lock.take(wait=False)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.take(wait=False)
        lock.close()


def test_the_same_seed_draws_the_same_after_a_break(tmp_path):
    def drawn(out, breaks):
        found, studies = [], opened(out, 4)
        while (claim := studies.claim()) is not None:
            with claim:
                found.append((claim.bracket.name, claim.space.draw(claim.trial).text))
                claim.finish(TrialState.COMPLETE, 0.01 * len(found))
            if breaks:
                studies = opened(out, 4)
        return found

    assert drawn(tmp_path / "one", breaks=False) == drawn(tmp_path / "two", breaks=True)


def test_no_bracket_draws_what_another_drew(tmp_path):
    brackets = [Bracket("edge/made", sampler, seed) for seed in (1, 2, 3) for sampler in ("tpe", "random")]
    space, drawn = Space("edge/made", (Range("rate", 1e-4, 1e-1),)), []
    studies = Studies(tmp_path, {"edge/made": space}, brackets, 6, maximise=True)
    while (claim := studies.claim()) is not None:
        with claim:
            drawn.append(space.draw(claim.trial).text)
            claim.finish(TrialState.COMPLETE, 0.5)
    assert len(set(drawn)) == len(drawn) == 36


def test_refused_designs_cost_nothing_but_not_for_ever(tmp_path):
    studies = opened(tmp_path, trials=1, brackets=BRACKETS[1:])
    count = 0
    while (claim := studies.claim()) is not None:
        with claim:
            claim.space.draw(claim.trial)
            claim.trial.set_user_attr(REFUSED, True)
            claim.finish(TrialState.PRUNED, reason="beyond the limit of ms")
            count += 1
    assert count == MOST_REFUSED


def test_others_are_those_of_the_bracket_at_that_rung(tmp_path):
    studies = opened(tmp_path)
    for score in (0.2, 0.9):  # tpe, random
        with studies.claim() as claim:
            claim.trial.report(score, 1)
            finish(claim)
    with studies.claim() as claim:
        claim.trial.report(0.5, 1)
        assert claim.bracket.sampler == "tpe"
        assert claim.others(1) == [0.2]
        assert claim.others(3) == []


def test_a_study_of_another_space_is_named(tmp_path):
    opened(tmp_path)
    other = Space("edge/other", SPACE.parameters)
    with pytest.raises(UsageError, match="holds a search of the space 'edge/made', not of edge/other"):
        opened(tmp_path, space=other, brackets=[Bracket("edge/other", "tpe", 1)])
    wider = Space("edge/made", (Choice("block", ("a", "b", "c")), SPACE.parameters[1]))
    with pytest.raises(UsageError, match="another form of the space 'edge/made'"):
        opened(tmp_path, space=wider)


def test_what_is_no_database_is_named(tmp_path):
    (tmp_path / DATABASE).write_text("no database, whatever its name says" * 100)
    with pytest.raises(InputUnreadable, match=r"study\.db' is damaged"):
        opened(tmp_path)
