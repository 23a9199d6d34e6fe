"""From a URI to a source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from streamguard.errors import SourceRefused
from streamguard.ingest.connection import Connection, Source, SourceOptions, StreamInfo
from streamguard.ingest.container import FileSource
from streamguard.ingest.demo import DemoSource
from streamguard.ingest.network import LiveSource, RemoteFile, is_remote_file, public

__all__ = ["Connection", "Source", "SourceOptions", "StreamInfo", "open_source"]

_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_DEVICE: Final = re.compile(r"^/dev/video\d+$")
_LIVE: Final = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp"})
_BRIDGE: Final = "srt-live-transmit 'srt://HOST:PORT' udp://127.0.0.1:5000"


def open_source(uri: str, *, name: str | None = None, options: SourceOptions | None = None) -> Source:
    """The source that ``uri`` names; nothing is opened yet.

    Args:
        uri: a path or ``file://`` URI of a video or picture; ``demo:`` for the made stream; ``rtsp(s)://``, ``rtmp(s)://``,
            ``udp://`` (MPEG-TS); ``http(s)://``: a file by the ending of its name, else HLS or another live stream;
            ``/dev/video0``, a local camera.
        name: what labels and events call the stream; by default taken from the URI.
        options: time limits and what to keep; the defaults suit most sources.

    Raises:
        SourceRefused: an unknown scheme, or a form of a known one that is not served.
    """
    options = options or SourceOptions()
    if uri.startswith("demo:"):
        return DemoSource(uri, name=name, options=options)
    if _DEVICE.match(uri):
        return LiveSource(uri, name=name, options=options)
    match = _SCHEME.match(uri)
    if match is None:
        return FileSource(uri, name=name, options=options)
    scheme = match.group(1).lower()
    if scheme == "file":
        return FileSource(_path_of(uri), name=name, options=options)
    if scheme in ("http", "https") and is_remote_file(uri):
        return RemoteFile(uri, name=name, options=options)
    if scheme in _LIVE:
        return LiveSource(uri, name=name, options=options)
    if scheme == "srt":
        raise SourceRefused(
            f"'{uri}': SRT is not decoded here. Run a bridge: {_BRIDGE}, and watch udp://127.0.0.1:5000."
        )
    known = ", ".join(f"{scheme}://" for scheme in sorted(_LIVE | {"file"}))
    raise SourceRefused(f"'{public(uri)}': unknown scheme '{scheme}://'. Known: a path, /dev/video0, demo:, {known}.")


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise SourceRefused(f"'{public(uri)}' names a file on another machine. Mount it, and write file:///path.")
    return Path(unquote(parts.path))
