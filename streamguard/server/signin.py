"""``/api/v1/session``: who is signed in at the operator page. A token comes in, a cookie goes out.

POST takes the token where every request has it, in ``Authorization``: it passes the same doors, waits after the same
few failures, and is never part of an address, a body or a log. GET says who it is, DELETE signs out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from streamguard.delivery.events import rfc3339
from streamguard.server.doors import SESSION, SESSION_PATH, TOKEN, Doors
from streamguard.server.problems import Problem
from streamguard.server.sessions import LIFE, cookie_name

_FORGOTTEN: Final = '"cache"'  # by the browser, at the end of a session: pictures, above all


class SignIn:
    """The three handlers. ``wall`` is Unix time in seconds."""

    def __init__(self, doors: Doors, wall: Callable[[], float] = time.time) -> None:
        self._doors = doors
        self._wall = wall

    def attach(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.post(SESSION_PATH, self._begin),
                web.get(SESSION_PATH, self._show),
                web.delete(SESSION_PATH, self._end),
            ]
        )

    async def _begin(self, request: web.Request) -> web.Response:
        if request.get(SESSION) is not None:  # else a session could renew itself for ever
            raise Problem(409, "session", "a session begins with a token; this request came with a session")
        secret = self._doors.sessions.begin(request[TOKEN])
        answer = web.json_response(self._told(request, LIFE), status=201)
        # Behind a proxy that speaks TLS the connection here is none: that the cookie is Secure costs nothing.
        tls = self._doors.tls is not None
        secure = tls or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(
            cookie_name(request, tls=tls),
            secret,
            max_age=int(LIFE),
            path="/",
            secure=secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def _show(self, request: web.Request) -> web.Response:
        session = request.get(SESSION)
        return web.json_response(self._told(request, None if session is None else self._doors.sessions.left(session)))

    async def _end(self, request: web.Request) -> web.Response:
        name = cookie_name(request, tls=self._doors.tls is not None)
        if request.get(SESSION) is None:
            raise Problem(409, "no-session", "this request came with a token, not with a session")
        self._doors.sessions.end(request.cookies[name])
        answer = web.Response(status=204, headers={"Clear-Site-Data": _FORGOTTEN})
        answer.del_cookie(name, path="/", secure=self._doors.tls is not None, httponly=True, samesite="Strict")
        return answer

    def _told(self, request: web.Request, left: float | None) -> dict[str, Any]:
        token = request[TOKEN]
        expires = None if left is None else rfc3339(self._wall() + left)
        return {"name": token.name, "role": token.role.value, "expires_at": expires}
