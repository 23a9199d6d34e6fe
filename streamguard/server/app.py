"""The HTTP face, in a thread and an event loop of its own: analysis never waits for a client.

============= =============================================================================
``/livez``    200 while the loops beat; a stream in trouble never fails it
``/readyz``   200 once engines are loaded
``/startupz`` 200 once the start is over, engine builds included
``/metrics``  Prometheus text format (or OpenMetrics, if the scraper asks for it)
``/api/v1``   :mod:`streamguard.server.api`
``/``         the operator page, :mod:`streamguard.server.assets`
``/whip/``    :mod:`streamguard.server.whip`, and ``/whep/``
============= =============================================================================

A probe answers ``{"status": "ok" | "failing", "reasons": [...]}`` with 200 or 503. Every refusal is a problem
(:mod:`streamguard.server.problems`); what a request passes before it comes here: :mod:`streamguard.server.doors`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from streamguard.access import ApiSettings
from streamguard.errors import UsageError
from streamguard.metrics import Metrics
from streamguard.server.assets import Assets
from streamguard.server.doors import METRICS, Doors
from streamguard.server.signin import SignIn
from streamguard.server.whip import Calls

Probe = Callable[[], Sequence[str]]


class Routes(Protocol):
    """What is served beside health and metrics: :class:`~streamguard.server.api.Api`, on a fleet's head
    :class:`~streamguard.server.fleet.FleetView`."""

    def attach(self, app: web.Application, refused: Callable[[str], None], /) -> None:
        """Add the routes; ``refused`` counts a refusal by reason."""


# A scrape takes milliseconds; whoever is still connected a second after the stop is cut off.
_GRACE: Final = 1.0
_HANDSHAKE: Final = 10.0  # seconds


class Address(NamedTuple):
    """Where the server listens: a host of this machine, a port of 0 to 65535; with 0 the system chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Health:
    """Three questions; each answers with the reasons why not, with none when all is well.

    They are asked in the server's thread.
    """

    alive: Probe
    ready: Probe
    started: Probe


class Server:
    """Serves ``metrics``, ``health`` and, if there are any, ``api`` and ``calls`` at ``address`` until it is stopped.

    >>> health = Health(lambda: (), lambda: (), lambda: ())
    >>> server = Server(Metrics(CollectorRegistry()), health, Address("127.0.0.1", 0))
    >>> with server:
    ...     bound = server.address.port > 0
    >>> bound
    True

    Raises:
        UsageError: others can reach ``address`` and there is no token, or a file of ``settings`` can't be used.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        address: Address,
        settings: ApiSettings | None = None,
        api: Routes | None = None,
        calls: Calls | None = None,
    ) -> None:
        self._doors = Doors(settings or ApiSettings(), metrics.http_refused)
        self._doors.check_exposure(address.host)
        self._app = make_app(metrics.registry, health, self._doors, api, calls)
        self._address = address
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] | None = None
        self._running = threading.Event()

    @property
    def address(self) -> Address:
        """The address asked for; once started, with the port that was bound."""
        if self._socket is None:
            return self._address
        return Address(self._address.host, int(self._socket.getsockname()[1]))

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at its end."""
        return f"http{'s' if self._doors.tls else ''}://{self.address}"

    def reload(self) -> None:
        """Read the certificate again, from any thread; a mistake in it is logged and changes nothing."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._doors.reload)

    def start(self) -> None:
        """Bind, then serve in a thread. Connections are accepted when this returns.

        Raises:
            UsageError: the address is taken, not allowed or no address of this machine.
        """
        self._socket = _bind(self._address)
        self._thread = threading.Thread(target=lambda b: asyncio.run(self._serve(b)), args=(self._socket,), name="http")
        self._thread.start()
        self._running.wait()

    async def _serve(self, bound: socket.socket) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop, self._stop = loop, lambda: loop.call_soon_threadsafe(stopped.set)
        self._running.set()
        idle = self._doors.settings.limits.idle
        runner = web.AppRunner(
            self._app, access_log=None, shutdown_timeout=_GRACE, keepalive_timeout=idle, lingering_time=_GRACE
        )
        await runner.setup()
        http = runner.server
        assert http is not None
        handshake = None if self._doors.tls is None else min(idle, _HANDSHAKE)
        listening = await loop.create_server(
            lambda: self._doors.keeper(http), sock=bound, ssl=self._doors.tls, ssl_handshake_timeout=handshake
        )
        await stopped.wait()
        listening.close()
        await runner.cleanup()

    def stop(self) -> None:
        """Stop serving and wait for the thread. A server never started, or stopped before, is left alone."""
        if self._thread is None or self._stop is None:
            return
        self._stop()
        self._thread.join()
        self._thread = self._stop = self._socket = self._loop = None
        self._running.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def make_app(
    registry: CollectorRegistry, health: Health, doors: Doors, api: Routes | None, calls: Calls | None = None
) -> web.Application:
    """The routes, in one place."""
    app = doors.application()
    app.router.add_get("/livez", _probe(health.alive))
    app.router.add_get("/readyz", _probe(health.ready))
    app.router.add_get("/startupz", _probe(health.started))
    app.router.add_get(METRICS, make_aiohttp_handler(registry))
    if api is not None:
        api.attach(app, doors.refused)
        SignIn(doors).attach(app)
        Assets().attach(app)
    if calls is not None:
        calls.attach(app, doors)
    return app


def _probe(ask: Probe) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        reasons = list(ask())
        body = {"status": "failing" if reasons else "ok", "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200, headers={"Cache-Control": "no-store"})

    return answer


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        raise UsageError(f"Can't listen on {address}: {_why(error)}. Choose another by --listen HOST:PORT.") from error


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is taken by another program"
    if error.errno == errno.EACCES:
        return "ports under 1024 need the system's permission"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "the host is no address of this machine"
    return error.strerror or str(error)
