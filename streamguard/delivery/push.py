"""What publishes to an RTSP server, in a process of its own: ``python -c ... < media``.

FFmpeg opens and closes an RTSP connection while PyAV holds the interpreter's lock, and writes to it without a time
limit: a server that does not answer would stop every thread of the process that publishes. Here it stops nobody; the
parent ends this process, whatever it waits for.

Standard input: the URL on a line (it may hold a password, so it is no argument), then the packets as NUT. The exit code
says how it went; ``ready`` on standard output, that the server takes what it is sent.
"""

from __future__ import annotations

import os
from typing import Any, Final

import av

DONE: Final = 0
LOST: Final = 3
DENIED: Final = 4
READY: Final = b"ready\n"

# A muxer puts sound and pictures in order: no picture waits longer than this (microseconds) for sound that is late.
_OPTIONS: Final = {"rtsp_transport": "tcp", "max_interleave_delta": "200000"}


def push() -> int:
    """Send what comes on standard input until it ends. Returns the exit code."""
    try:
        with open(0, "rb", buffering=0, closefd=False) as source:  # a buffer would wait until it is full
            _send(source, source.readline().decode().rstrip("\n"))
    except (av.HTTPUnauthorizedError, av.HTTPForbiddenError):
        return DENIED
    except (av.FFmpegError, OSError):
        return LOST
    return DONE


def _send(source: Any, url: str) -> None:
    # The smallest probe: the header tells all, and every picture probed would be late.
    with (
        av.open(source, "r", format="nut", options={"probesize": "32"}) as file,
        av.open(url, "w", format="rtsp", options=_OPTIONS) as out,
    ):
        targets = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in file.streams}
        out.start_encoding()
        os.write(1, READY)
        for packet in file.demux():
            if packet.dts is not None:
                packet.stream = targets[packet.stream_index]
                out.mux_one(packet)
