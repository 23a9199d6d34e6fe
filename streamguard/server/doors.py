"""The doors of the HTTP face, in the order in which a request meets them.

========================= =======================================================================================
connections, their pace   :class:`~streamguard.server.limits.Doorkeeper`; head and idle time by aiohttp's keep-alive
security headers          on every answer, refusals too
rate                      a bucket a client; probes pass, the page's files have one ten times as large
preflight                 a browser asks whether a page of another origin may call (CORS): answered without a token
token and role            probes and the page's own files are open, ``/metrics`` as configured; else
                          ``Authorization: Bearer``, or the cookie of a session (:mod:`~streamguard.server.sessions`)
body                      its size and its time, where a handler reads it (:func:`read_json`)
========================= =======================================================================================

Whoever adds a route has it behind a token: what is open is named here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter

from streamguard.access import ApiSettings, TlsSettings
from streamguard.errors import UsageError
from streamguard.server.auth import Busy, Role, Token, TokenFile, is_loopback
from streamguard.server.limits import Buckets, Doorkeeper, client_of
from streamguard.server.problems import CLOSE, Problem, as_problems
from streamguard.server.sessions import Session, Sessions, cookie_name, from_here

log = logging.getLogger(__name__)

PROBES: Final = frozenset({"/livez", "/readyz", "/startupz"})
METRICS: Final = "/metrics"
PAGE: Final = "/"
PAGE_FILES: Final = "/page/"
SESSION_PATH: Final = "/api/v1/session"
EVENTS: Final = "/api/v1/events"
WHIP: Final = "/whip/"
WHEP: Final = "/whep/"
TOKEN: Final = web.RequestKey("token", Token)
SESSION: Final = web.RequestKey("session", Session)
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READING: Final = frozenset({"GET", "HEAD"})
_SHARED: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
_SHOWN: Final = "Accept-Post, ETag, Link, Location, Retry-After, WWW-Authenticate"
_FORGIVEN: Final = 1 / 12  # failures a second
_FILES: Final = 10  # times as many of the page's files: one page is some twenty


class Doors:
    """What every request passes. ``refusals`` counts by ``reason``."""

    def __init__(self, settings: ApiSettings, refusals: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        limits = settings.limits
        self.settings = settings
        self._refusals = refusals
        self._tokens = None if settings.tokens is None else TokenFile(settings.tokens)
        self._rate = Buckets(limits.rate, limits.burst, clock)
        self._file_rate = Buckets(_FILES * limits.rate, _FILES * limits.burst, clock)
        self._failures = Buckets(_FORGIVEN, limits.failures, clock)
        self.sessions = Sessions(clock)
        self._tls = None if settings.tls is None else tls_context(settings.tls)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How connections are encrypted, if they are."""
        return self._tls

    def check_exposure(self, host: str) -> None:
        """Whether the server may listen on ``host``.

        Raises:
            UsageError: others than this machine can reach it, and there is no token; or the tokens can't be read.
        """
        known = [] if self._tokens is None else self._tokens.tokens()
        if is_loopback(host):
            return
        if not known:
            where = "set api.tokens to a file" if self._tokens is None else f"'{self.settings.tokens}' has none"
            raise UsageError(
                f"Listening on {host}, where others reach it, needs tokens: {where}, and make one with "
                "`streamguard tokens add NAME --role viewer`. Or listen on 127.0.0.1."
            )
        if self._tls is None:
            log.warning(
                "%s is reached without TLS: tokens travel in clear text. Set api.tls, or put a proxy with TLS there.",
                host,
            )

    def reload(self) -> None:
        """Read the certificate again. A mistake in it changes nothing and is logged. Tokens need no reload."""
        if self._tls is None or self.settings.tls is None:
            return
        try:
            tls_context(self.settings.tls)  # both files fit, or the one in use stays
            self._tls.load_cert_chain(self.settings.tls.certificate, self.settings.tls.key)
        except (UsageError, OSError) as error:
            log.error("certificate not reloaded: %s", error)
        else:
            log.warning("certificate reloaded")

    def keeper(self, server: web.Server) -> Doorkeeper:
        """Who meets a new connection."""
        limits = self.settings.limits
        return Doorkeeper(server, limits.connections, limits.per_client, lambda: self.refused("connections"))

    def application(self) -> web.Application:
        """An application behind these doors, without a route yet."""
        app = web.Application(
            middlewares=[as_problems, self._paced, self._preflight, self._admitted],
            client_max_size=self.settings.limits.body,
        )
        app.on_response_prepare.append(self._dress)
        return app

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc()

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path not in PROBES:
            response.headers.setdefault("Cache-Control", "no-store")
        if _shared(request.path):
            response.headers.setdefault("Vary", "Origin")
            if (origin := self._origin(request)) is not None:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = _SHOWN
        if self._tls is not None:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        response.headers.popall("Server", None)

    @web.middleware
    async def _paced(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        rate = self._file_rate if request.path.startswith(PAGE_FILES) else self._rate
        wait = 0.0 if request.path in PROBES else rate.take(peer_of(request))
        if wait:
            self.refused("rate")
            raise Problem(429, "rate", "too many requests; come again later", _after(wait))
        return await handler(request)

    @web.middleware
    async def _preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Browsers ask without a token (Fetch, 3.3.2). An origin that is not named is told nothing."""
        if request.method != "OPTIONS" or not _shared(request.path):
            return await handler(request)
        allowed = _SHARED if self._origin(request) is not None else {}
        offers = {} if request.path == EVENTS else {"Accept-Post": "application/sdp"}
        return web.Response(status=200, headers={**allowed, **offers})

    def _origin(self, request: web.Request) -> str | None:
        """The origin of the page that asks, if it may."""
        origin, known = request.headers.get("Origin"), self.settings.cors_origins
        return origin if origin is not None and (origin in known or "*" in known) else None

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._open(request):
            token = await self._token(request)
            if not _may(token.role, request):
                self.refused("role")
                needed = "an operator's" if token.role is Role.VIEWER else "another's"
                raise Problem(403, "role", f"token '{token.name}' is a {token.role}'s; this needs {needed}")
            request[TOKEN] = token
        return await handler(request)

    def _open(self, request: web.Request) -> bool:
        if request.path in PROBES or request.path == PAGE or request.path.startswith(PAGE_FILES):
            return True
        if request.path == METRICS:
            return self.settings.metrics == "open" or (self.settings.metrics == "loopback" and _from_here(request))
        # What is not there is open to see, but for the API: what it has is for those with a token.
        return request.match_info.http_exception is not None and not request.path.startswith("/api/")

    async def _token(self, request: web.Request) -> Token:
        if "Authorization" in request.headers:
            return await self._bearer(request)
        secret = request.cookies.get(cookie_name(request, tls=self._tls is not None))
        return await self._bearer(request) if secret is None else self._of_session(request, secret)

    def _of_session(self, request: web.Request, secret: str) -> Token:
        """The token that a session stands for: one that was removed is refused here too."""
        if not from_here(request):
            self.refused("cross-site")
            raise Problem(403, "cross-site", "a session is good for requests of this server's own page alone", CLOSE)
        session = self.sessions.find(secret)
        if session is None or not self._known(session.token):
            self.sessions.end(secret)
            self.refused("session")
            raise Problem(401, "session", "this session is over; sign in again", _challenge() | CLOSE)
        request[SESSION] = session
        return session.token

    def _known(self, token: Token) -> bool:
        try:
            return self._tokens is not None and self._tokens.stands(token)
        except UsageError as error:
            log.error("%s", error)
            raise Problem(503, "tokens", "the tokens can't be read; the log says why", CLOSE) from None

    async def _bearer(self, request: web.Request) -> Token:
        client = peer_of(request)
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if self._tokens is None or scheme.lower() != "bearer":
            self.refused("no token")
            hint = "" if self._tokens else "; this server has none: api.tokens names their file"
            raise Problem(401, "token", f"this needs a bearer token{hint}", _challenge() | CLOSE)
        if wait := self._failures.wait(client):
            self.refused("failures")
            raise Problem(429, "failures", "too many wrong tokens; come again later", _after(wait) | CLOSE)
        try:
            token = await self._tokens.check(text.strip())
        except Busy:
            self.refused("busy")
            raise Problem(503, "busy", "too many tokens are being checked; come again", _after(1) | CLOSE) from None
        except UsageError as error:
            log.error("%s", error)
            raise Problem(503, "tokens", "the tokens can't be read; the log says why", CLOSE) from None
        if token is None:
            self._failures.take(client)
            self.refused("token")
            raise Problem(401, "token", "this token is none of this server", _challenge("invalid_token") | CLOSE)
        if self._tokens.expired(token):
            self.refused("expired")
            raise Problem(401, "expired", f"token '{token.name}' has expired", _challenge("invalid_token") | CLOSE)
        return token

    def stands(self, token: Token) -> bool:
        """Whether a token that was let in still would be; a file that can't be read at the moment changes nothing."""
        try:
            return self._tokens is None or self._tokens.stands(token)
        except UsageError as error:
            log.error("%s", error)
            return True


async def read_json(request: web.Request, seconds: float) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        Problem: it is another type, not JSON, no object, or does not come within ``seconds``.
        web.HTTPRequestEntityTooLarge: it is larger than the application takes.
    """
    return parsed(await read_body(request, "application/json", seconds))


async def read_body(request: web.Request, expected: str, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        Problem: it is another type than ``expected``, or does not come within ``seconds``.
        web.HTTPRequestEntityTooLarge: it is larger than the application takes.
    """
    if request.content_type != expected:
        raise Problem(415, "type", f"expected {expected}, found {request.content_type}", CLOSE)
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "slow", f"the body did not come within {seconds:g} s", CLOSE) from None


def parsed(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Problem: it is not JSON, or no object.
    """
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise Problem(400, "json", "the body is not valid JSON") from None
    if not isinstance(data, dict):
        raise Problem(400, "json", "expected a JSON object")
    return data


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 and newer with that certificate.

    Raises:
        UsageError: a file that can't be read, is no PEM, or does not fit the other.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    names = f"api.tls: '{settings.certificate}' with '{settings.key}'"
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except ssl.SSLError as error:
        raise UsageError(f"{names}: no PEM certificate with its key without a password ({error.reason}).") from error
    except OSError as error:
        raise UsageError(f"{names} can't be read: {error.strerror}.") from error
    return context


def _shared(path: str) -> bool:
    """Whether pages of other origins may be let in here."""
    return path == EVENTS or path.startswith((WHIP, WHEP))


def _may(role: Role, request: web.Request) -> bool:
    """What a role is good for. Whoever may read may sign in and out; whom a sender may hear of, the feed decides."""
    reads = request.method in _READING
    if role is Role.OPERATOR:
        return True
    if role is Role.SENDER:
        return request.path.startswith(WHIP) or (request.path == EVENTS and reads)
    return reads or request.path == SESSION_PATH or request.path.startswith(WHEP)


def peer_of(request: web.Request) -> str:
    """Whom a request comes from: an IPv4 address, or the /64 of an IPv6 address."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return client_of(peer)


def _from_here(request: web.Request) -> bool:
    """Whether a request comes from this machine, and for it: not through a proxy, nor from a page that a browser has
    open under another name (DNS rebinding)."""
    if not is_loopback(peer_of(request)) or any(name in request.headers for name in ("Forwarded", "X-Forwarded-For")):
        return False
    host = request.headers.get("Host", "")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return is_loopback(name.strip("[]"))


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="streamguard"' + (f', error="{error}"' if error else "")}


def _after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}
