"""What a service manager is told, over the datagram socket it names (sd_notify(3)): ready, alive, stopping."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from streamguard.config import ServiceManager

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager, if there is one, as long as the block lasts.

    After :meth:`ready`, ``WATCHDOG=1`` goes out twice in each interval for as long as ``failing`` has no reason to
    give: a loop that is stuck gets the process restarted.
    """

    def __init__(self, manager: ServiceManager, failing: Callable[[], Sequence[str]]) -> None:
        self._manager = manager
        self._failing = failing
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def ready(self) -> None:
        """The run has begun."""
        self._tell("READY=1")
        if self._manager.watchdog is not None:
            self._thread.start()

    def _run(self) -> None:
        assert self._manager.watchdog is not None
        while not self._over.is_set():
            reasons = self._failing()
            if reasons:
                log.error("the watchdog is not fed: %s", "; ".join(reasons))
            else:
                self._tell("WATCHDOG=1")
            self._over.wait(self._manager.watchdog / 2)

    def _tell(self, state: str) -> None:
        address = self._manager.address
        if address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.connect("\0" + address[1:] if address.startswith("@") else address)
                out.send(state.encode())
            except OSError as error:
                log.warning("the service manager at '%s' was not told %s: %s", address, state, error.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell("STOPPING=1")
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
