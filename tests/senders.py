"""Senders of live streams that need nothing but PyAV and the standard library."""

from __future__ import annotations

import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import cv2

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
def jpeg_camera(fps: float) -> Iterator[str]:
    """A camera that sends stamped JPEGs over HTTP, as many cheap ones do; the address of its stream."""
    over = threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the viewer left
                for index in itertools.count():
                    if over.wait(1 / fps):
                        return
                    data = cv2.imencode(".jpg", pattern(index, 640, 360))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")

        def log_message(self, *args: object) -> None:
            pass

    with _serving(Camera) as address:
        try:
            yield f"{address}/video"
        finally:
            over.set()


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP; the address of the folder, without a slash at its end."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type, misc]

        def log_message(self, *args: object) -> None:
            pass

    with _serving(Quiet) as address:
        yield address


@contextmanager
def _serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server in a thread of its own; its address, without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
