"""A broadcast that a test feeds: numbered pictures, and sound that says where it belongs."""

import threading
import time

import av
import numpy as np
from prometheus_client import CollectorRegistry

from streamguard.delivery.broadcast import Broadcast
from streamguard.frames import Frame
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.container import FileSource
from streamguard.metrics import Metrics
from streamguard.pixels import picture_of_rgb
from tests.media import pattern

FPS = 25
RATE = 16_000


def write_clapper(path, seconds=8, every=2.0, codec="aac", rate=RATE):
    """A video with numbered pictures, and a tone for 0.2 s at 1 s, 3 s, 5 s ..."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "25"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = out.add_stream(codec, rate=rate, layout="mono")
        form = "fltp" if codec == "aac" else "s16"
        for index in range(seconds * FPS):
            out.mux(video.encode(av.VideoFrame.from_ndarray(pattern(index), format="rgb24")))
            t = np.arange(index * rate // FPS, (index + 1) * rate // FPS) / rate
            loud = ((t - 1.0) % every < 0.2) & (t >= 1.0)
            wave = 0.5 * loud * np.sin(2 * np.pi * 440 * t)
            samples = wave.astype(np.float32) if codec == "aac" else (wave * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format=form, layout="mono")
            frame.sample_rate, frame.pts = rate, index * rate // FPS
            out.mux(sound.encode(frame))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


class Camera:
    """Shows pictures at 25 a second, in a thread, until it is told to end; with the sound of ``clip`` if given.

    ``noise``: they hardly compress, and fill a connection's buffers within seconds.
    """

    def __init__(self, clip=None, pace=1.0, *, noise=False):
        self.metrics = Metrics(CollectorRegistry())
        self.broadcast = Broadcast("cam", lambda: None, self.metrics)
        self.shown = 0
        self._clip, self._pace = clip, pace
        self._noise = np.random.default_rng(1) if noise else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._play if clip else self._film)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._thread.join()
        self.broadcast.close()

    def value(self, metric, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{metric}", {"stream": "cam", **labels}) or 0.0

    def _film(self):
        self.broadcast.opened()
        started = time.monotonic()
        while not self._ended.wait(max(0.0, started + self.shown / FPS / self._pace - time.monotonic())):
            rgb = pattern(self.shown % 2000)
            if self._noise is not None:
                rgb[64:] = self._noise.integers(0, 256, rgb[64:].shape, np.uint8)
            picture = picture_of_rgb(rgb)
            self.broadcast.frame(Frame("cam", 1, self.shown, self.shown / FPS, 0.0, "arrival", picture))
            self.shown += 1

    def _play(self):
        """The clip in real time, over and over: each time a session of its own."""
        session = 0
        while not self._ended.is_set():
            session += 1
            started = time.monotonic()
            with FileSource(self._clip, options=SourceOptions(sound=True)).open(session) as connection:
                self.broadcast.opened(connection.sound)
                connection.hear(self.broadcast.heard)
                for frame in connection:
                    if self._ended.wait(max(0.0, started + frame.pts / self._pace - time.monotonic())):
                        return
                    self.broadcast.frame(frame)
                    self.shown += 1


def beeps(samples, rate, start=0.0):
    """Seconds at which the tones begin, of mono float samples."""
    loud = np.abs(samples) > 0.1
    edges = np.flatnonzero(loud)
    found = []
    for at in edges:
        if not found or at / rate - found[-1][1] > 0.5:
            found.append([at / rate, at / rate])
        found[-1][1] = at / rate
    return [start + first for first, _ in found]
