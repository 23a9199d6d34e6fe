"""The outbox writer: one thread that commits what waits, all of it at once.

While one commit is under way the next events gather: the slower the disk, the more go together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from streamguard.delivery.outbox import Outbox

_TICK: Final = 1.0  # seconds at most until it is written what sinks have acknowledged


class OutboxWriter:
    """Commits as long as the block lasts; ``told`` is called when sinks may see more than before."""

    def __init__(self, outbox: Outbox, told: Callable[[], None]) -> None:
        self._outbox = outbox
        self._told = told
        self._over = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def stuck_for(self) -> float:
        """Seconds that the commit under way has taken; infinite if the thread is gone."""
        if not self._thread.is_alive() and not self._over:
            return float("inf")
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while not self._over:
            self._outbox.wait(_TICK)
            self._busy_since = time.monotonic()
            news = self._outbox.flush()
            self._busy_since = None
            if news:
                self._told()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End after the commit at hand; what came later is written by :meth:`Outbox.close`."""
        self._over = True
        self._thread.join()
