"""The feed: what it tells, in which order, of sources that misbehave as scripted.

The real ways to misbehave are in test_network.py and test_rtsp.py.
"""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from streamguard.errors import NoVideo, SourceDenied, SourceLost
from streamguard.frames import Frame, Picture
from streamguard.ingest.connection import StreamInfo
from streamguard.ingest.live import FeedSettings, LiveFeed
from streamguard.ingest.network import PictureChanged
from streamguard.ingest.reconnect import BackoffSettings
from streamguard.ingest.watchdog import WatchdogSettings

QUICK = FeedSettings(
    WatchdogSettings(stalled=0.2, opening=0.4, frozen=60.0), BackoffSettings(first=0.01, denied=0.02), poll=0.01
)
PLANE = np.zeros((36, 64), np.uint8)


class Connection:
    """Gives what its script says: a number of frames, an error, or a wait for an event."""

    info = StreamInfo(64, 36, 25.0, "none", None, False)
    received_bytes = 0
    skipped_frames = 0
    clock_offset = None

    def __init__(self, session, script, finished):
        self.session, self.script, self.finished = session, script, finished
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def __iter__(self):
        index = 0
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                step.wait(30)
                continue
            for _ in range(step):
                yield Frame("s", self.session, index, index / 25, 0.0, "arrival", Picture(PLANE, PLANE, PLANE))
                index += 1


class Source:
    """Scripts, one a connection; the last ends a recording. A script that is an error fails to open."""

    name, uri, live = "s", "test://s", True

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.connections = []

    def open(self, session):
        script = self.scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        self.connections.append(Connection(session, script, finished=not self.scripts))
        return self.connections[-1]


@dataclass
class Listener:
    """Writes down what it is told; frames of a session as their count."""

    told: list = field(default_factory=list)
    delays: list = field(default_factory=list)

    def opened(self, session, connection):
        self.told += [("opened", session), 0]

    def frame(self, frame):
        self.told[-1] += 1

    def degraded(self, session, frozen):
        self.told.append(("frozen", session, frozen))

    def closed(self, session, reason, words):
        self.told.append(("closed", session, reason))

    def retrying(self, reason, words, delay):
        self.told.append(("retry", reason))
        self.delays.append(delay)


def fed(*scripts, settings=QUICK):
    source, listener = Source(*scripts), Listener()
    LiveFeed(source, settings=settings).run(listener)
    return source, listener.told


def test_a_recording_is_opened_once():
    source, told = fed([3])
    assert told == [("opened", 1), 3, ("closed", 1, "ended")]
    assert source.connections[0].closed


def test_an_end_and_an_error_are_followed_by_a_new_session():
    _, told = fed([3], [2, SourceLost("gone")], [1])
    assert told == [
        *(("opened", 1), 3, ("closed", 1, "ended"), ("retry", "ended")),
        *(("opened", 2), 2, ("closed", 2, "lost"), ("retry", "lost")),
        *(("opened", 3), 1, ("closed", 3, "ended")),
    ]


def test_sessions_count_what_gave_frames():
    _, told = fed(SourceLost("down"), SourceDenied("who?"), NoVideo("sound"), [SourceLost("at once")], [1])
    assert told == [
        *(("retry", "lost"), ("retry", "denied"), ("retry", "unusable"), ("retry", "lost")),
        *(("opened", 1), 1, ("closed", 1, "ended")),
    ]


def test_a_changed_picture_has_its_own_reason():
    _, told = fed([2, PictureChanged("larger")], [1])
    assert told[2:4] == [("closed", 1, "changed"), ("retry", "changed")]


def test_a_silent_connection_is_left_behind_and_what_it_still_says_is_lost():
    silent = threading.Event()
    source, listener = Source([2, silent, 5], [3]), Listener()
    LiveFeed(source, settings=QUICK).run(listener)
    assert listener.told == [
        *(("opened", 1), 2, ("closed", 1, "stalled"), ("retry", "stalled")),
        *(("opened", 2), 3, ("closed", 2, "ended")),
    ]
    before = list(listener.told)
    silent.set()
    for thread in threading.enumerate():
        if thread.name.startswith("reader-s-1"):
            thread.join(5)
    assert listener.told == before
    assert source.connections[0].closed


def test_opening_may_hang_too():
    hangs = threading.Event()

    class Hanging(Source):
        def open(self, session):
            if len(self.scripts) == 2:
                self.scripts.pop(0)
                hangs.wait(30)
                raise SourceLost("at last")
            return super().open(session)

    listener = Listener()
    LiveFeed(Hanging(None, [1]), settings=QUICK).run(listener)
    hangs.set()
    assert listener.told[0] == ("retry", "stalled")
    assert listener.told[1] == ("opened", 1)


def test_connections_left_behind_are_bounded():
    silent = threading.Event()
    source, listener = Source(*[[1, silent]] * 6, [1]), Listener()
    thread = threading.Thread(target=(feed := LiveFeed(source, settings=QUICK)).run, args=(listener,))
    thread.start()
    while len(source.connections) < 4:
        time.sleep(0.01)
    time.sleep(0.5)
    assert len(source.connections) == 4
    silent.set()
    thread.join(10)
    feed.stop()
    assert len(source.connections) == 7


def test_a_frozen_picture_is_told_once():
    settings = FeedSettings(WatchdogSettings(frozen=0.1, look=0.0), poll=0.01)

    class Slow(Connection):
        def __iter__(self):
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    class SlowSource(Source):
        def open(self, session):
            return Slow(session, self.scripts[0], True)

    listener = Listener()
    listener.frame = lambda frame: None
    LiveFeed(SlowSource([20]), settings=settings).run(listener)
    assert [t for t in listener.told if t != 0] == [("opened", 1), ("frozen", 1, True), ("closed", 1, "ended")]


def test_stop_ends_a_feed_that_is_silent_waiting_or_delivering():
    silent = threading.Event()
    patient = FeedSettings(backoff=BackoffSettings(first=60.0), poll=0.01)
    for script in ([1, silent], SourceLost("down"), [10**9]):
        listener = Listener()
        feed = LiveFeed(Source(script, [1]), settings=patient)
        thread = threading.Thread(target=feed.run, args=(listener,))
        thread.start()
        while not listener.told:
            time.sleep(0.01)
        feed.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert ("opened", 2) not in listener.told
    silent.set()


def test_the_words_are_given():
    class Words(Listener):
        def retrying(self, reason, words, delay):
            self.told.append(words)

    listener = Words()
    LiveFeed(Source(SourceLost("rtsp://bob:hunter2@cam/1 is down"), [1]), settings=QUICK).run(listener)
    assert listener.told[0] == "rtsp://***@cam/1 is down"


@pytest.mark.parametrize("lasted", [True, False])
def test_delays_come_from_the_back_off(lasted):
    listener = Listener()
    good = BackoffSettings(first=0.01, good=0.0 if lasted else 60.0)
    LiveFeed(Source([1], [1], [1], [1]), settings=FeedSettings(backoff=good, poll=0.005)).run(listener)
    assert len(listener.delays) == 3
    assert all(0.005 <= delay <= 0.01 for delay in listener.delays) == lasted
