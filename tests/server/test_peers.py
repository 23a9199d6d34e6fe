"""The book of WebRTC sessions and their peers' vital signs, step by step."""

import pytest

from streamguard.access import WebRtcSettings
from streamguard.server.auth import Role, Token
from streamguard.server.peers import PeerSession, PeerSessions, Vitals
from streamguard.server.problems import Problem
from streamguard.server.sdp import Offer
from streamguard.server.webrtc import Traffic

SETTINGS = WebRtcSettings(connecting=15.0, silence=10.0, most=3, per_client=2, openings=4)
TOKEN = Token("0", "cara", Role.SENDER, "", "", "")


def session(number, client="a", kind="whip", stream="door"):
    vitals = Vitals(kind, SETTINGS, 0.0)
    return PeerSession(str(number), kind, stream, client, TOKEN, '"x"', Offer("", (), "u", "p"), vitals)


@pytest.mark.parametrize("kind", ["whip", "whep"])
def test_a_peer_that_never_connects(kind):
    vitals = Vitals(kind, SETTINGS, 100.0)
    looks = [vitals.look(100.0 + second, "connecting", Traffic(0, 0, 0)) for second in (1, 14.9, 15)]
    assert looks == [None, None, "never connected"]


def test_a_sender_that_connects_and_sends_nothing():
    vitals = Vitals("whip", SETTINGS, 0.0)
    assert vitals.look(14.0, "connected", Traffic(0, 0, 0)) is None
    assert vitals.look(15.0, "connected", Traffic(0, 0, 0)) == "never connected"


def test_a_sender_that_falls_silent():
    vitals = Vitals("whip", SETTINGS, 0.0)
    assert vitals.look(20.0, "connected", Traffic(1000, 10, 0)) is None
    assert vitals.silent_for(22.0) == 2.0
    assert vitals.look(29.9, "connected", Traffic(1000, 10, 5)) is None
    assert vitals.look(30.0, "connected", Traffic(1000, 10, 9)) == "silent"


def test_a_viewer_is_silent_with_reason_while_nothing_is_sent_to_it():
    vitals = Vitals("whep", SETTINGS, 0.0)
    assert vitals.look(1.0, "connected", Traffic(10, 1, 100)) is None
    assert vitals.look(60.0, "connected", Traffic(10, 1, 100)) is None, "the stream stands still"
    assert vitals.look(69.0, "connected", Traffic(10, 1, 200)) is None
    assert vitals.look(70.0, "connected", Traffic(10, 1, 300)) == "silent", "it takes, and says nothing"


@pytest.mark.parametrize("state", ["failed", "closed"])
def test_a_connection_that_is_over(state):
    assert Vitals("whip", SETTINGS, 0.0).look(1.0, state, Traffic(0, 0, 0)) == state


def refused(book, client):
    with pytest.raises(Problem) as caught:
        book.admit(client)
    return caught.value.status, caught.value.name, caught.value.headers["Retry-After"]


def test_places_are_bounded():
    book = PeerSessions(SETTINGS, lambda: 0.0)
    for number, client in enumerate("aab"):
        book.admit(client)
        book.add(session(number, client))
    assert refused(book, "a") == (429, "per-client", "5")
    assert refused(book, "c") == (503, "most", "5")
    gone = book.get("0")
    assert book.remove(gone)
    assert not book.remove(gone), "once"
    book.admit("a")
    assert len(book) == 2


def test_a_place_can_be_taken_between_the_asking_and_the_opening():
    book = PeerSessions(SETTINGS, lambda: 0.0)
    for number in range(2):
        book.admit("a")
        book.add(session(number))
    with pytest.raises(Problem, match="2 sessions of this address"):
        book.add(session(3))


def test_openings_are_counted_whatever_becomes_of_them():
    now = 0.0
    book = PeerSessions(SETTINGS, lambda: now)
    for _ in range(4):
        book.admit("a")
    assert refused(book, "a") == (429, "openings", "15")
    book.admit("b")
    now = 15.0
    book.admit("a")


def test_who_sends_a_stream():
    book = PeerSessions(SETTINGS, lambda: 0.0)
    book.add(session(1, "a", "whep"))
    assert book.sender("door") is None
    sender = session(2, "b")
    book.add(sender)
    assert book.sender("door") is sender
    assert (book.count("whip"), book.count("whep")) == (1, 1)
    assert sender.path == "/whip/door/2"
