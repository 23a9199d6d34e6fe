"""``/api/v1/fleet``: how the machines stand that share the streams. There is one where `streamguard fleet` runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from streamguard.server.problems import Problem

PATH: Final = "/api/v1/fleet"

State = Callable[[str | None], Mapping[str, Any]]
"""The fleet as of now; given the name of a node, with the streams of that one alone. From any thread."""


class FleetView:
    """The route, and what it shows; without a ``state`` that there is no fleet here."""

    def __init__(self, state: State | None = None) -> None:
        self._state = state

    def attach(self, app: web.Application, refused: Callable[[str], None]) -> None:
        """Add the route."""
        app.router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """The state as JSON."""
        if self._state is None:
            raise Problem(404, "no-fleet", "this is one machine; `streamguard fleet` serves many")
        strange = sorted(request.query.keys() - {"node"})
        if strange or len(request.query.getall("node", [])) > 1:
            what = f"'{strange[0]}' is not known" if strange else "a key is given twice"
            raise Problem(400, "query", f"{what}; known here: node")
        return web.json_response(await asyncio.to_thread(self._state, request.query.get("node")))
