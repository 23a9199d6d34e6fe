"""Start, freeze and kill a real RTSP server (tests/servers/rtsp.py) from a test.

>>> with RtspServer(write_clip(tmp_path / "clip.units", patterns(50))) as server:   # doctest: +SKIP
...     watch(server.url)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import av
import cv2
import pytest

from streamguard.frames import U8

PYTHON = "/usr/bin/python3"
DEBIAN_PACKAGES = " ".join((Path(__file__).parent / "servers" / "debian.txt").read_text().split())
_SCRIPT = Path(__file__).parent / "servers" / "rtsp.py"


@cache
def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    check = 'import gi; gi.require_version("GstRtspServer", "1.0"); gi.require_version("GstApp", "1.0")'
    if shutil.which("ffmpeg") is None:
        return f"no ffmpeg; needs Debian's {DEBIAN_PACKAGES}"
    try:
        done = subprocess.run([PYTHON, "-c", check], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"no {PYTHON}; needs Debian's {DEBIAN_PACKAGES}"
    return None if done.returncode == 0 else f"no gst-rtsp-server; needs Debian's {DEBIAN_PACKAGES}"


def require() -> None:
    """Skip the test where there is no server, but fail in CI, where one is promised."""
    reason = missing()
    if reason is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RtspServer:
    """One server process; the same port over all its starts.

    ``clip``: access units of :func:`write_clip`, repeated in real time. Or ``raw`` (:func:`write_raw`) with
    ``size`` (width, height): encoded live, each picture stamped with the milliseconds of the day's clock modulo 2^24.
    ``record``: it takes what a client publishes, and writes it to that Matroska file.
    ``prefix``: the command that runs it somewhere else.
    ``audio``: with sound, G.711 as many cameras have it. ``loss``: share of RTP packets that the server drops, 0 to 1.
    """

    clip: Path | None = None
    raw: Path | None = None
    record: Path | None = None
    size: tuple[int, int] = (0, 0)
    fps: int = 25
    user: str | None = None
    password: str | None = None
    loss: float = 0.0
    audio: bool = False
    port: int = field(default_factory=free_port)
    prefix: Sequence[str] = ()
    _process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """With the credentials in it, if there are any."""
        login = f"{self.user}:{self.password}@" if self.user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/live"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> Self:
        """Start, and wait until it listens."""
        command = [
            *self.prefix,
            PYTHON,
            str(_SCRIPT),
            f"--port={self.port}",
            f"--fps={self.fps}",
            f"--loss={self.loss}",
        ]
        if self.clip:
            command.append(f"--clip={self.clip}")
        if self.raw:
            command += [f"--raw={self.raw}", f"--width={self.size[0]}", f"--height={self.size[1]}"]
        if self.record:
            command.append(f"--record={self.record}")
        if self.audio:
            command.append("--audio")
        if self.user:
            command += [f"--user={self.user}", f"--password={self.password}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", f"the RTSP server did not start: {line!r}"
        return self

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing comes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def write_clip(path: Path, frames: Iterable[U8], *, fps: int = 25, gop: int = 25) -> Path:
    """Encode (H, W, 3) uint8 RGB frames as H.264 access units; their size may change on the way."""
    with path.open("wb") as out:
        encoder: av.VideoCodecContext | None = None
        for rgb in frames:
            height, width = rgb.shape[:2]
            if encoder is None or (encoder.width, encoder.height) != (width, height):
                if encoder is not None:
                    _write(out, encoder.encode(None))
                encoder = _encoder(width, height, fps, gop)
            _write(out, encoder.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        assert encoder is not None, "no frames"
        _write(out, encoder.encode(None))
    return path


def write_raw(path: Path, frames: Iterable[U8]) -> Path:
    """(H, W, 3) uint8 RGB frames of one even size as I420, for ``raw``."""
    with path.open("wb") as out:
        for rgb in frames:
            out.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


def _encoder(width: int, height: int, fps: int, gop: int) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = fps
    quick = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
    encoder.options = quick | {"g": str(gop), "profile": "baseline"}
    return encoder


def _write(out: object, packets: Iterable[av.Packet]) -> None:
    for packet in packets:
        data = bytes(packet)
        out.write(struct.pack(">I", len(data)) + data)


__all__ = ["RtspServer", "free_port", "missing", "require", "write_clip", "write_raw"]
