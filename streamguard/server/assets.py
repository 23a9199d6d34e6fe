"""The operator page's own files, from the package ``page`` beside this module: no build step, nothing of other hosts.

They hold no data and no secret, so they are open (:mod:`~streamguard.server.doors` names them). Each is read once; what
is asked for by another name is not there, so no path leads out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.hdrs import METH_GET

from streamguard.server.doors import PAGE, PAGE_FILES

INDEX: Final = "index.html"
TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing inline, nothing of other hosts, and no text that becomes a script (CSP 3, Trusted Types)."""


class Asset(NamedTuple):
    """A file: its bytes, its type, and what tells it from its other versions."""

    content: bytes
    type: str
    tag: str


class Assets:
    """All files of the page, by name."""

    def __init__(self) -> None:
        self._assets = read_assets()

    def attach(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_route(METH_GET, PAGE, self._index)
        app.router.add_route(METH_GET, PAGE_FILES + "{file}", self._file)

    async def _index(self, request: web.Request) -> web.Response:
        return self._answer(request, INDEX)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name == INDEX or name not in self._assets:
            raise web.HTTPNotFound
        return self._answer(request, name)

    def _answer(self, request: web.Request, name: str) -> web.Response:
        asset = self._assets[name]
        headers = {
            "Cache-Control": "no-cache",  # kept, and asked about each time: a new version shows at once
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "ETag": f'"{asset.tag}"',
        }
        if any(known.value == asset.tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=asset.content, content_type=asset.type, charset="utf-8", headers=headers)


def read_assets() -> Mapping[str, Asset]:
    """The files as they are shipped."""
    found = {}
    for file in files("streamguard.server").joinpath("page").iterdir():
        kind = TYPES.get(PurePath(file.name).suffix)
        if kind is not None:
            content = file.read_bytes()
            found[file.name] = Asset(content, kind, hashlib.sha256(content).hexdigest()[:32])
    return found
