"""Blocking calls beside an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streamguard.delivery.blocking import BlockingCalls
from streamguard.delivery.sinks import SinkError


def test_it_returns_what_the_call_returns_and_raises_what_it_raises() -> None:
    def refuse() -> None:
        raise SinkError("no")

    async def use() -> None:
        calls = BlockingCalls("calls")
        assert await calls.run(lambda: 5) == 5
        with pytest.raises(SinkError, match="no"):
            await calls.run(refuse)
        assert await calls.run(lambda: threading.current_thread().name) == "calls"
        calls.end()

    asyncio.run(use())


def test_the_loop_goes_on_while_a_call_blocks() -> None:
    async def use() -> int:
        calls, free, turns = BlockingCalls("calls"), threading.Event(), 0
        blocked = asyncio.create_task(calls.run(lambda: free.wait(60)))
        while turns < 10:
            await asyncio.sleep(0.001)
            turns += 1
        assert not blocked.done()
        free.set()
        assert await blocked
        calls.end()
        return turns

    assert asyncio.run(use()) == 10


def test_after_its_end_it_begins_again() -> None:
    async def use() -> list[int]:
        calls = BlockingCalls("calls")
        found = []
        for count in range(3):
            found.append(await calls.run(lambda count=count: count))
            calls.end()
        return found

    assert asyncio.run(use()) == [0, 1, 2]


def test_a_caller_that_was_cancelled_is_not_answered() -> None:
    async def use() -> int:
        calls, free = BlockingCalls("calls"), threading.Event()
        blocked = asyncio.create_task(calls.run(lambda: free.wait(60)))
        await asyncio.sleep(0)
        blocked.cancel()
        await asyncio.wait({blocked})
        free.set()
        answer = await calls.run(lambda: 7)
        calls.end()
        return answer

    assert asyncio.run(use()) == 7


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_that_breaks_is_told_and_the_next_one_runs() -> None:
    async def use() -> int:
        calls = BlockingCalls("calls")
        with pytest.raises(RuntimeError, match="a call in the thread 'calls' failed"):
            await calls.run(lambda: 1 // 0)
        while threading.active_count() > 1 and any(thread.name == "calls" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        answer = await calls.run(lambda: 7)
        calls.end()
        return answer

    assert asyncio.run(use()) == 7
