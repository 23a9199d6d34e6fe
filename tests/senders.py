"""Senders of live streams that need nothing but PyAV and the standard library."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from tests.media import pattern


@contextmanager
def sending(
    target: str, format: str, *, muxer: dict[str, str] | None = None, size: tuple[int, int] = (640, 360)
) -> Iterator[None]:
    """Encode stamped frames in real time, 25 a second, into a URL or a file, as long as the block lasts."""
    over = threading.Event()
    started = threading.Event()

    def run() -> None:
        with av.open(target, "w", format=format, options=muxer or {}) as out:
            options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25", "threads": "1"}
            video = out.add_stream("libx264", rate=25, options=options)
            video.width, video.height = size
            begin, index = time.monotonic(), 0
            while not over.is_set():
                time.sleep(max(0.0, begin + index / 25 - time.monotonic()))
                out.mux(video.encode(av.VideoFrame.from_ndarray(pattern(index, *size), format="rgb24")))
                index += 1
                started.set()

    thread = threading.Thread(target=run, name=f"sender-{format}")
    thread.start()
    started.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP; the address of the folder, without a slash at its end."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type, misc]

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
