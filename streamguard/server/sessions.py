"""Sessions of the operator page: a cookie that stands for a token, since a browser sends no header with a picture.

``<img>``, ``<video>`` and ``EventSource`` can't carry ``Authorization: Bearer``, and a token in an address would end up
in logs and histories. So the page shows its token once, in that header, and gets a cookie that scripts can't read
(HttpOnly), that other sites can't make a browser send (SameSite=Strict), and that ends: after twelve hours, after one
hour without a request, with its token, and with the server, which keeps sessions in memory alone.

A cookie comes along whoever asked for the request, so one that comes with a session must also come from the page itself
(:func:`from_here`): Fetch Metadata where the browser tells it (W3C), else ``Origin`` (RFC 6454). Cookies know no ports;
the name carries it, so that two servers on one machine do not sign each other's people out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from streamguard.server.auth import Token

LIFE: Final = 12 * 3600.0  # seconds: a shift
IDLE: Final = 3600.0
BOUND: Final = 256
"""Sessions at once; the one not heard of for longest goes first."""

_READING: Final = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class Session:
    """Whose it is, until when it may be used, and when it was used last; seconds of the clock."""

    token: Token
    until: float
    used: float


class Sessions:
    """Sessions by their secret, of which a hash alone is kept. Not safe between threads: one loop owns them."""

    def __init__(self, clock: Callable[[], float], bound: int = BOUND) -> None:
        self._clock = clock
        self._bound = bound
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, token: Token) -> str:
        """A new session of a token. Returns its secret, 256 random bits, which nothing can show again."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        self._sessions[_key(secret)] = Session(token, now + LIFE, now)
        if len(self._sessions) > self._bound:
            self._sessions.popitem(last=False)
        return secret

    def find(self, secret: str) -> Session | None:
        """The session of a secret, used now; None if there is none, or it is over."""
        key, now = _key(secret), self._clock()
        session = self._sessions.get(key)
        if session is None:
            return None
        if now >= session.until or now - session.used >= IDLE:
            del self._sessions[key]
            return None
        session.used = now
        self._sessions.move_to_end(key)
        return session

    def end(self, secret: str) -> None:
        """Forget a session; one that is not there is left alone."""
        self._sessions.pop(_key(secret), None)

    def left(self, session: Session) -> float:
        """Seconds until it ends at the latest."""
        return session.until - self._clock()


def cookie_name(request: web.Request, *, tls: bool) -> str:
    """What the cookie is called. ``__Host-`` binds it to this host and to TLS (RFC 6265bis, 4.1.3.2)."""
    bound = request.transport.get_extra_info("sockname") if request.transport else None
    port = bound[1] if isinstance(bound, tuple) else 0
    return f"{'__Host-' if tls else ''}streamguard-{port}"


def from_here(request: web.Request) -> bool:
    """Whether a request comes from a page of this server, or, to read, from the person at the browser."""
    reading = request.method in _READING
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin" or (reading and site == "none")
    origin = request.headers.get("Origin")  # what comes without TLS from another machine has no Fetch Metadata
    if origin is None:
        return reading
    return urlsplit(origin).netloc == request.headers.get("Host", "")


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
