"""The dispatcher: every event to every sink in order, and no sink in another's way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from streamguard.delivery.dispatch import Consumer, Dispatcher, DispatchSettings
from streamguard.delivery.events import Event
from streamguard.delivery.letters import Chosen, LetterBox
from streamguard.delivery.outbox import Outbox
from streamguard.delivery.retry import RetrySettings
from streamguard.delivery.sinks import SinkClosed, SinkError, SinkRejected
from streamguard.delivery.writer import OutboxWriter
from streamguard.metrics import Metrics
from tests.delivery.making import Listed, Made, deliveries, fresh_metrics, stored, until

QUICK = DispatchSettings(grace=2.0, ending=0.2, look=0.05, retry=RetrySettings(first=0.01, longest=0.02))


class Running:
    """Outbox, writer and dispatcher over some sinks."""

    def __init__(self, consumers: Sequence[Consumer], settings: DispatchSettings, path: Path | None) -> None:
        self.metrics: Metrics = fresh_metrics()
        self.closed: list[str] = []
        self.outbox = Outbox(None, self.metrics) if path is None else stored(path, self.metrics)
        kept = [consumer.sink.name for consumer in consumers if not consumer.live]
        self.outbox.register(kept, [consumer.sink.name for consumer in consumers if consumer.live])
        self.dispatcher = Dispatcher(self.outbox, consumers, self.metrics, self.closed.append, settings)
        self.made = Made()
        self.sent: list[str] = []

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            event = self.made.up()
            self.sent.append(event["id"])
            self.outbox.take(event)


@contextmanager
def running(
    *sinks: Listed | Consumer, settings: DispatchSettings = QUICK, path: Path | None = None
) -> Iterator[Running]:
    consumers = [sink if isinstance(sink, Consumer) else Consumer(sink) for sink in sinks]
    run = Running(consumers, settings, path)
    with ExitStack() as stack:
        stack.callback(run.outbox.close)
        stack.enter_context(OutboxWriter(run.outbox, run.dispatcher.wake))
        stack.enter_context(run.dispatcher)
        yield run


@pytest.mark.parametrize("durable", [True, False])
def test_every_event_reaches_every_sink_in_order(tmp_path: Path, durable: bool) -> None:
    first, second = Listed("first", batch=1), Listed("second", batch=7)
    with running(first, second, path=tmp_path / "o.db" if durable else None) as run:
        run.send(50)
    assert first.ids == second.ids == run.sent
    assert run.outbox.lost == 0
    assert deliveries(run.metrics, "first", "delivered") == deliveries(run.metrics, "second", "delivered") == 50
    assert run.metrics.registry.get_sample_value("streamguard_outbox_pending", {"sink": "first"}) == 0
    assert (first.opened, first.closed) == (1, 1)


def test_an_event_goes_out_without_waiting_for_the_next() -> None:
    sink = Listed()
    with running(sink) as run:
        for count in range(1, 4):
            run.send()
            until(lambda count=count: len(sink.taken) == count)


def test_a_sink_that_is_away_gets_everything_when_it_is_back(tmp_path: Path, caplog) -> None:
    away, there = Listed("away"), Listed("there")
    away.away(True)
    with caplog.at_level(logging.WARNING), running(away, there, path=tmp_path / "o.db") as run:
        run.send(30)
        until(lambda: there.ids == run.sent and away.tried > 3)
        assert run.outbox.behind("away") == 30
        away.away(False)
        run.send(5)
    assert away.ids == there.ids == run.sent
    assert deliveries(run.metrics, "away", "failed") >= 30
    assert deliveries(run.metrics, "there", "failed") == 0
    assert away.opened >= 4, "it is opened anew after each failure"
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "sink 'away' does not take events, they wait: 'away' is away",
        "sink 'away' takes events again",
    ]


def test_what_a_sink_did_not_take_is_there_for_the_next_run(tmp_path: Path, caplog) -> None:
    sink = Listed("hook")
    sink.away(True)
    with caplog.at_level(logging.WARNING), running(sink, path=tmp_path / "o.db") as run:
        run.send(12)
        until(lambda: sink.tried > 0)
    assert "12 events for sink 'hook' wait for the next run" in caplog.messages
    assert run.outbox.lost == 0
    sent = run.sent
    back = Listed("hook")
    with running(back, path=tmp_path / "o.db") as run:
        until(lambda: len(back.taken) == 12)
    assert back.ids == sent


def test_without_a_file_what_was_not_taken_is_lost_and_counted() -> None:
    sink = Listed("hook")
    sink.away(True)
    with running(sink) as run:
        run.send(12)
    assert run.outbox.lost == 12
    assert deliveries(run.metrics, "hook", "lost") == 12


def test_after_a_failure_the_whole_batch_comes_again_with_the_same_ids() -> None:
    sink = Listed(batch=4)
    batches: list[list[str]] = []

    def once(events: Sequence[Event]) -> SinkError | None:
        batches.append([event["id"] for event in events])
        return SinkError("cut off") if len(batches) == 1 else None

    sink.fail = once
    with running(sink) as run:
        run.send(4)
    assert batches[0] == batches[1][: len(batches[0])]
    assert sink.ids == run.sent


def test_a_sink_that_fails_at_the_end_is_tried_once_more_and_no_oftener() -> None:
    sink = Listed()
    sink.away(True)
    with running(sink) as run:
        run.send(1)
    assert sink.tried == 2
    assert run.outbox.lost == 1


def test_one_refused_event_is_a_dead_letter_and_the_rest_goes_on(tmp_path: Path, caplog) -> None:
    sink = Listed("hook", batch=10)
    bad: list[str] = []

    def refuse(events: Sequence[Event]) -> SinkRejected | None:
        for index, event in enumerate(events):
            if event["id"] in bad:
                sink.taken += events[:index]
                return SinkRejected(f"HTTP 422 for '{event['id']}'", taken=index)
        return None

    sink.fail = refuse
    sink.silent.set()
    with caplog.at_level(logging.ERROR), running(Consumer(sink, patience=0.05), path=tmp_path / "o.db") as run:
        run.send(10)
        bad += [run.sent[3], run.sent[7]]
        sink.silent.clear()
    assert sink.ids == [name for name in run.sent if name not in bad]
    assert deliveries(run.metrics, "hook", "dead") == 2
    assert deliveries(run.metrics, "hook", "delivered") == 8
    assert f"event '{bad[0]}' is a dead letter of sink 'hook': HTTP 422 for '{bad[0]}'" in caplog.messages
    outbox = stored(tmp_path / "o.db")
    assert outbox._store is not None
    assert [(name, reason) for name, _, reason in outbox._store.dead_letters()] == [
        ("hook", f"HTTP 422 for '{name}'") for name in bad
    ]
    outbox.close()


def refusing(sink: Listed) -> None:
    """Refuse every event for good."""
    sink.fail = lambda events: SinkRejected("HTTP 422")


def dead(path: Path, name: str = "hook", count: int = 3) -> list[str]:
    """An outbox with dead letters of a sink; their ids."""
    sink = Listed(name)
    refusing(sink)
    with running(sink, path=path) as run:
        run.made = Made("earlier")
        run.send(count)
        until(lambda: deliveries(run.metrics, name, "dead") == count)
    return run.sent


def left(path: Path) -> list[tuple[int, str, bool]]:
    with LetterBox(path) as box:
        return [(letter.number, letter.reason, letter.again) for letter in box.letters(Chosen())]


def test_dead_letters_are_tried_once_more_when_somebody_wants_it_while_it_runs(tmp_path: Path, caplog) -> None:
    path = tmp_path / "o.db"
    ids = dead(path)
    hook, bus = Listed("hook"), Listed("bus")
    with caplog.at_level(logging.WARNING), running(hook, bus, path=path) as run:
        with LetterBox(path) as box:
            box.retry(Chosen([1, 3]))
        until(lambda: hook.ids == [ids[0], ids[2]])
        until(lambda: left(path) == [(2, "HTTP 422", False)])
        run.send(2)
        until(lambda: bus.ids == run.sent)
    assert hook.ids == [ids[0], ids[2], *run.sent]
    assert bus.ids == run.sent, "it is none of its letters"
    assert f"sink 'hook' took dead letter 3, event '{ids[2]}'" in caplog.messages
    assert deliveries(run.metrics, "hook", "delivered") == 4


def test_a_sink_that_keeps_a_state_is_told_that_a_letter_comes_late(tmp_path: Path) -> None:
    class Retaining(Listed):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.late: list[str] = []

        async def deliver_late(self, event: Event) -> None:
            self.late.append(event["id"])

    path = tmp_path / "o.db"
    ids = dead(path)
    with LetterBox(path) as box:
        box.retry(Chosen([2]))
    hook = Retaining("hook")
    with running(hook, path=path) as run:
        run.send(2)
        until(lambda: hook.late == [ids[1]] and hook.ids == run.sent)


def test_letters_that_were_marked_while_none_ran_are_tried_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    ids = dead(path, count=20)
    with LetterBox(path) as box:
        box.retry(Chosen())
    hook = Listed("hook")
    settings = DispatchSettings(grace=2.0, ending=0.2, look=3600.0, retry=QUICK.retry)
    with running(hook, settings=settings, path=path):
        until(lambda: left(path) == [])
    assert hook.ids == ids, "and none waits for the next look"


@pytest.mark.parametrize("kind", [SinkRejected, SinkError])
def test_a_letter_that_is_not_taken_stays_dead_with_the_new_reason(tmp_path: Path, kind: type[SinkError]) -> None:
    path = tmp_path / "o.db"
    dead(path, count=1)
    with LetterBox(path) as box:
        box.retry(Chosen())
    hook = Listed("hook", batch=1)
    hook.fail = lambda events: kind("HTTP 500")
    with running(hook, path=path) as run:
        until(lambda: left(path) == [(1, "HTTP 500", False)])
        hook.away(False)
        run.send(3)
        until(lambda: hook.ids == run.sent)
        assert hook.tried == 1 + len(run.sent), "once, and no oftener"


def test_a_letter_needs_no_new_event_to_be_tried_by_a_sink_that_was_away(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    ids = dead(path, count=1)
    hook = Listed("hook")
    hook.away(True)
    settings = DispatchSettings(max_age=0.3, grace=2.0, ending=0.2, look=0.05, retry=QUICK.retry)
    with running(hook, settings=settings, path=path) as run, LetterBox(path) as box:
        run.send(1)
        until(lambda: deliveries(run.metrics, "hook", "dead") == 1)  # it waited too long, and nothing else waits
        box.retry(Chosen([1]))
        until(lambda: left(path)[0] == (1, "'hook' is away", False))
        hook.away(False)
        box.retry(Chosen())
        until(lambda: left(path) == [])
    assert hook.ids == [*ids, *run.sent]


def test_events_do_not_wait_for_many_letters(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    ids = dead(path, count=50)
    away = Listed("hook")
    away.away(True)
    with running(away, path=path) as run:
        run.send(20)
    with LetterBox(path) as box:
        box.retry(Chosen())
    hook = Listed("hook", batch=1)
    with running(hook, path=path):
        until(lambda: len(hook.taken) == 70)
    assert [name for name in hook.ids if name in run.sent] == run.sent
    assert [name for name in hook.ids if name in ids] == ids
    assert hook.ids.index(run.sent[-1]) == 39, "one letter between two batches"


def test_events_that_waited_too_long_are_dead_letters(tmp_path: Path) -> None:
    sink = Listed("hook")
    sink.away(True)
    settings = DispatchSettings(max_age=0.3, grace=2.0, ending=0.2, retry=QUICK.retry)
    with running(sink, settings=settings, path=tmp_path / "o.db") as run:
        run.send(25)
        until(lambda: deliveries(run.metrics, "hook", "dead") == 25)
        sink.away(False)
        run.send(1)
        until(lambda: sink.ids == run.sent[25:])
    assert run.outbox.behind("hook") == 0


def test_a_sink_that_never_answers_is_given_up_and_tried_again(caplog) -> None:
    silent, there = Listed("silent"), Listed("there")
    silent.silent.set()
    with caplog.at_level(logging.WARNING), running(Consumer(silent, patience=0.05), there) as run:
        run.send(20)
        until(lambda: there.ids == run.sent and silent.tried > 2)
        silent.silent.clear()
        until(lambda: silent.ids == run.sent)
    assert "sink 'silent' does not take events, they wait: no answer within 0.05 s" in caplog.messages


def test_a_sink_that_ignores_being_cancelled_holds_nobody_up() -> None:
    class Stubborn(Listed):
        async def deliver(self, events: Sequence[Event]) -> None:
            self.tried += 1
            due = asyncio.get_running_loop().time() + 3.0
            while asyncio.get_running_loop().time() < due:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue

    stubborn, there = Stubborn("stubborn"), Listed("there")
    with running(Consumer(stubborn, patience=0.05), there) as run:
        run.send(3)
        until(lambda: there.ids == run.sent and stubborn.tried > 0)
    assert run.outbox.lost == 3


def test_what_a_client_raises_of_its_own_is_a_failure_like_any_other(caplog) -> None:
    sink = Listed("odd")
    sink.fail = lambda events: KeyError("not what was promised")
    with caplog.at_level(logging.ERROR), running(sink) as run:
        run.send()
        until(lambda: sink.tried > 1)
        sink.away(False)
    assert sink.ids == run.sent
    assert "sink 'odd' failed in a way it does not know" in caplog.messages


def test_how_long_the_far_side_asks_to_be_left_alone_is_how_long_it_is() -> None:
    sink = Listed()
    moments: list[float] = []

    def busy(events: Sequence[Event]) -> SinkError | None:
        moments.append(asyncio.get_running_loop().time())
        return SinkError("HTTP 429", retry_after=0.5) if len(moments) == 1 else None

    sink.fail = busy
    with running(sink) as run:
        run.send()
        until(lambda: sink.ids == run.sent)
    assert moments[1] - moments[0] >= 0.5


def test_a_sink_that_nobody_reads_is_told_once_and_gets_no_more() -> None:
    pipe, there = Listed("pipe", batch=1), Listed("there")
    pipe.fail = lambda events: SinkClosed("the reader is gone") if pipe.tried == 3 else None
    with running(pipe, there) as run:
        run.send(10)
        until(lambda: run.closed == ["pipe"])
        run.send(2)
    assert pipe.ids == run.sent[:2]
    assert there.ids == run.sent
    assert run.outbox.lost == 0
    assert deliveries(run.metrics, "pipe", "closed") == 1


def test_a_live_sink_sees_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    hook = Listed("hook")
    hook.away(True)
    with running(hook, path=tmp_path / "o.db") as run:
        run.send(3)
        until(lambda: hook.tried > 0)
    earlier = run.sent
    hook, console = Listed("hook"), Listed("console")
    with running(hook, Consumer(console, live=True), path=tmp_path / "o.db") as run:
        run.send(2)
    assert hook.ids == earlier + run.sent
    assert console.ids == run.sent


def test_a_reader_may_stand_still_as_long_as_it_likes() -> None:
    free = threading.Event()

    class Pipe(Listed):
        async def deliver(self, events: Sequence[Event]) -> None:
            while not free.is_set():
                await asyncio.sleep(0.01)
            await super().deliver(events)

    pipe = Pipe("pipe")
    settings = DispatchSettings(grace=0.05, ending=0.05, retry=QUICK.retry)
    with running(Consumer(pipe, patience=None), settings=settings) as run:
        run.send(3)
        threading.Timer(0.5, free.set).start()
    assert pipe.ids == run.sent


def test_after_the_run_a_slow_sink_has_the_grace_and_no_longer() -> None:
    class Slow(Listed):
        async def deliver(self, events: Sequence[Event]) -> None:
            await asyncio.sleep(0.1)
            await super().deliver(events)

    slow = Slow("slow", batch=1)
    settings = DispatchSettings(grace=0.5, ending=0.1, retry=QUICK.retry)
    with running(slow, settings=settings) as run:
        run.send(1000)
    assert 0 < len(slow.taken) < 100
    assert run.outbox.lost == 1000 - len(slow.taken)


def test_it_says_whether_its_loop_turns() -> None:
    blocking = threading.Event()

    class Blocking(Listed):
        async def deliver(self, events: Sequence[Event]) -> None:
            blocking.wait(60)

    sink = Blocking("blocking")
    with running(sink) as run:
        assert run.dispatcher.stuck_for() < 30
        run.send()
        until(lambda: run.dispatcher.stuck_for() > 0.5)
        blocking.set()
        until(lambda: run.dispatcher.stuck_for() == 0.0)
