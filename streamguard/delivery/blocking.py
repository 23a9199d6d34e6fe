"""One thread that makes blocking calls for an event loop, so that the loop never waits for a disk or a pipe."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from streamguard.errors import StreamGuardError

T = TypeVar("T")


class BlockingCalls:
    """Calls, one after another, in a thread of their own.

    The thread is a daemon: a call that never returns (a pipe whose reader stands still) keeps nobody from leaving.
    What waits is bounded by the caller, who awaits one call before the next.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns, or the :class:`StreamGuardError` that it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():  # its caller was cancelled
                return
            if error is None:
                answer.set_result(result)  # type: ignore[arg-type]
            else:
                answer.set_exception(error)

        def work() -> None:
            result: T | None = None
            error: BaseException | None = RuntimeError(f"a call in the thread '{self._name}' failed")
            try:
                result = call()
                error = None
            except StreamGuardError as raised:
                error = raised
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(settle, result, error)

        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=_work, args=(self._waiting,), name=self._name, daemon=True)
            self._thread.start()
        self._waiting.put(work)
        return await answer

    def end(self) -> None:
        """End the thread after the call at hand; a later :meth:`run` begins a new one."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread, self._waiting = None, queue.SimpleQueue()


def _work(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
