"""A web server of pages, for tests of what runs in a browser.

>>> with Site(Path("deploy/call-plugin"), {"/blank": Canned("<!doctype html>")}) as site:
...     site.url.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Canned:
    """What is answered: by any method, once the request's body is read."""

    text: str = ""
    status: int = 200
    type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request that came: its header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str


class Site:
    """Serves the files of ``folder``, and ``pages`` by path, on 127.0.0.1; ``asked`` are the requests for pages so far.

    A page may be a function of the number of earlier requests for it. ``open``: pages of other origins may read all.
    """

    def __init__(
        self,
        folder: Path,
        pages: Mapping[str, Canned | Callable[[int], Canned]] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        open: bool = False,
    ) -> None:
        self.pages = dict(pages or {})
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, folder, open))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(site: Site, folder: Path, open_: bool) -> Callable[..., SimpleHTTPRequestHandler]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def handle_any(self) -> None:
            path = urlsplit(self.path).path
            page = site.pages.get(path)
            if open_ and self.command == "OPTIONS":
                page = Canned(status=204, headers={"Access-Control-Allow-Methods": "*"})
            elif page is None:
                return super().do_GET()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                earlier = sum(each.path == path for each in site.asked)
                site.asked.append(Asked(self.command, path, headers, body))
                page = page(earlier) if callable(page) else page
            self.send_response(page.status)
            self.send_header("Content-Type", page.type)
            self.send_header("Content-Length", str(len(page.text.encode())))
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.text.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = do_OPTIONS = handle_any

        def end_headers(self) -> None:
            if open_:
                for name in ("Origin", "Headers"):
                    self.send_header(f"Access-Control-Allow-{name}", "authorization, *" if name == "Headers" else "*")
                self.send_header("Access-Control-Expose-Headers", "*")
            super().end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Tests say what matters."""

    return Handler
