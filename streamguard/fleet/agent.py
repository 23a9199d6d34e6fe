"""A node: obeys the newest order for as long as its lease lasts. Nothing here knows how orders travel."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from streamguard.chain import usable_cores
from streamguard.errors import StreamGuardError
from streamguard.fleet.capacity import CapacityMeter
from streamguard.fleet.compatible import engines_of, of_node, problems_here
from streamguard.fleet.messages import Hello, Order, Report, Settings
from streamguard.fleet.station import Station
from streamguard.fleet.tenant import Tenant
from streamguard.version import __version__

log = logging.getLogger(__name__)

_TICK: Final = 0.25  # seconds between two looks at the lease
_LEASED: Final = "has a lease"
_UNLEASED: Final = "has not heard from the head for its lease: its streams stop"


class Agent:
    """What a node does, in a thread of its own. :meth:`turn` answers at once, from any thread; whatever takes longer
    (loading engines, ending streams) it only asks for. ``clock``: monotonic seconds."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._news = threading.Condition()
        self._tenant = Tenant(uuid.uuid4().hex)
        self._used: Settings | None = None
        self._failed: str | None = None
        self._problem: str | None = None
        self._station: Station | None = None
        self._meter: CapacityMeter | None = None
        self._load = _Load()
        self._over = False
        self._leased = False
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._thread.start()

    # From any thread.

    def hello(self, settings: Settings) -> Hello:
        """What this node is, and whether it could follow ``settings``."""
        config = of_node(settings.config, self._name)
        problems, engines = problems_here(config), {}
        with suppress(StreamGuardError):  # then it is among the problems
            engines = dict(engines_of(config))
        return Hello(self._tenant.boot, __version__, engines, usable_cores(), tuple(problems))

    def turn(self, order: Order) -> Report:
        """Take an order, and say how things stand. One of an older head, or of an older number, changes nothing."""
        with self._news:
            self._tenant.take(order)
            self._news.notify_all()
            return self._report()

    @property
    def broken(self) -> bool:
        """The thread has failed, with its traceback on standard error. Only another process helps."""
        return not (self._over or self._thread.is_alive())

    def close(self) -> None:
        """End every stream, and the thread."""
        with self._news:
            self._over = True
            self._news.notify_all()
        self._thread.join()

    def _report(self) -> Report:
        station, used = self._station, self._used
        return Report(
            boot=self._tenant.boot,
            stamp=self._clock(),
            term=self._tenant.term,
            applied=self._tenant.applied,
            held={} if station is None else station.held,
            version=None if used is None else used.version,
            failed=self._failed,
            problem=self._problem,
            capacity=1 if self._meter is None else self._meter.streams,
            cpu=self._load.cores,
            overload=self._load.overload,
            pending=self._load.pending,
            url=None if station is None else station.url,
            states={} if station is None else station.states(),
        )

    # In the agent's thread.

    def _run(self) -> None:
        while not self._over:
            with self._news:
                self._news.wait(_TICK)
                settings, used = self._tenant.settings, self._used
            known = (self._failed, None if used is None else used.version)
            if settings is not None and settings.version not in known:
                self._use(settings)
            self._obey()
            self._measure()
        self._close()

    def _obey(self) -> None:
        with self._news:
            duty = self._tenant.duty(self._clock())
        if self._station is None:
            return
        if duty.leased != self._leased:
            self._leased = duty.leased
            log.warning("node '%s' %s", self._name, _LEASED if duty.leased else _UNLEASED)
        if self._station.troubles():
            self._mend()
            return
        self._station.keep(duty.streams)
        with self._news:
            self._tenant.done(duty)

    def _use(self, settings: Settings) -> None:
        """Go over to other settings; where they can't be used, back to those that could."""
        before = self._used
        self._close()
        try:
            self._open(settings)
        except StreamGuardError as error:
            log.error("node '%s' can't use settings %s: %s", self._name, settings.version, error)
            self._failed, self._problem = settings.version, str(error)
            if before is not None:
                self._open(before)
        else:
            self._failed = self._problem = None

    def _mend(self) -> None:
        """A loop of the station does not turn any more: begin anew."""
        assert self._station is not None
        log.error("node '%s' begins anew: %s", self._name, "; ".join(self._station.troubles()))
        used = self._used
        self._close()
        if used is not None:
            self._open(used)

    def _open(self, settings: Settings) -> None:
        config = of_node(settings.config, self._name)
        self._station = Station(config).__enter__()
        self._used = settings
        self._meter = CapacityMeter(usable_cores(), config.fleet.load)

    def _close(self) -> None:
        station, self._station, self._used = self._station, None, None
        if station is not None:
            station.__exit__(None, None, None)

    def _measure(self) -> None:
        station, meter = self._station, self._meter
        if station is None or meter is None:
            return
        now, cpu = self._clock(), time.process_time()
        if self._load.note(now, cpu):
            self._load.overload, self._load.pending = station.overload, station.pending
            meter.note(now, cpu, len(station.held), overload=self._load.overload)


class _Load:
    """What the process takes, once a second."""

    def __init__(self) -> None:
        self.cores = 0.0
        self.overload = 0
        self.pending = 0
        self._last: tuple[float, float] | None = None

    def note(self, now: float, cpu: float) -> bool:
        """Whether a second is over."""
        if self._last is not None:
            if now - self._last[0] < 1.0:
                return False
            self.cores = (cpu - self._last[1]) / (now - self._last[0])
        self._last = (now, cpu)
        return True
