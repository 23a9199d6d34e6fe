"""The API on a real server, over real sockets; streams on a real Guard."""

import http.client
import json
import threading
import time

import pytest
from jsonschema import Draft202012Validator

from streamguard.access import LimitSettings
from streamguard.config import Config
from streamguard.delivery.events import event_schema
from streamguard.ingest.allowed import AllowedSources
from streamguard.pipeline import Guard
from streamguard.server.api import ROOT, openapi
from streamguard.server.feed import BOUND
from tests.media import patterns, write_video
from tests.serving import flagged, serving, until

DEMO = "demo:?duration=600"
ALLOWED = AllowedSources(schemes=("demo", "file"))


class Watching:
    """One Guard for all tests: its events go to whichever API is there."""

    def __init__(self):
        self.take = lambda event: None
        self.guard = Guard(Config(), on_event=lambda event: self.take(event))


@pytest.fixture(scope="module")
def watching():
    made = Watching()
    with made.guard:
        yield made


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path, labels=str(tmp_path / "labels.jsonl")) as running:
        yield running


@pytest.fixture
def live(tmp_path, watching):
    """With a Guard behind it."""
    with serving(tmp_path, guard=lambda: watching.guard, allow_sources=ALLOWED, most_streams=3) as running:
        watching.take = running.api.take
        yield running
        for stream in watching.guard.streams():
            watching.guard.remove(stream.source.name)


def holds(schema, data):
    """Whether the shipped description allows this."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": openapi()["components"]}
    Draft202012Validator(root).validate(data)


class Listener:
    """A client of the event feed, reading whole messages."""

    def __init__(self, served, query="", last=None):
        self.connection = served.connect()
        headers = {"Authorization": f"Bearer {served.viewer}"} | ({"Last-Event-ID": last} if last else {})
        self.connection.request("GET", f"{ROOT}/events{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        assert self.read() == {"retry": "3000"}

    def read(self):
        """The next message as its fields; None at the end."""
        fields = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields or None

    def close(self):
        self.connection.close()


# The description.


def test_routes_and_description_are_the_same(served):
    described = {
        (method.upper(), path) for path, item in openapi()["paths"].items() for method in item if method != "parameters"
    }
    routes = {
        (route.method, route.resource.canonical)
        for route in served.server._app.router.routes()
        if route.method != "HEAD"
    }
    assert routes == described


def test_the_description_is_served(served):
    assert served.ask("GET", f"{ROOT}/openapi.json", served.viewer).json == json.loads(json.dumps(openapi()))


# Streams.


def test_a_stream_comes_is_renamed_and_goes(live, watching):
    added = live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "door", "uri": DEMO})
    assert added.status == 201, added
    assert added.headers["Location"] == f"{ROOT}/streams/door"
    holds("Stream", added.json)
    until(lambda: live.ask("GET", f"{ROOT}/streams/door", live.viewer).json["tracks"])
    shown = live.ask("GET", f"{ROOT}/streams", live.viewer).json["streams"]
    assert [stream["name"] for stream in shown] == ["door"]
    holds("Stream", shown[0])
    renamed = live.ask("PATCH", f"{ROOT}/streams/door", live.operator, {"name": "gate"})
    assert (renamed.status, renamed.json["name"]) == (200, "gate")
    assert [stream.source.name for stream in watching.guard.streams()] == ["gate"]
    assert live.ask("GET", f"{ROOT}/streams/door", live.viewer).problem == "no-stream"
    assert live.ask("DELETE", f"{ROOT}/streams/gate", live.operator).status == 204
    assert live.ask("DELETE", f"{ROOT}/streams/gate", live.operator).problem == "no-stream"
    assert watching.guard.streams() == ()


def test_a_name_is_given_once(live):
    for name in ("a", "b"):
        assert live.ask("POST", f"{ROOT}/streams", live.operator, {"name": name, "uri": DEMO}).status == 201
    again = live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "a", "uri": DEMO})
    assert (again.status, again.problem) == (409, "name-taken")
    moved = live.ask("PATCH", f"{ROOT}/streams/a", live.operator, {"name": "b"})
    assert (moved.status, moved.problem) == (409, "name-taken")
    same = live.ask("PATCH", f"{ROOT}/streams/a", live.operator, {"name": "a"})
    assert (same.status, same.json["name"]) == (200, "a")


def test_a_stream_is_held_against_another_operating_point(live):
    points = live.ask("GET", f"{ROOT}/operating-points", live.viewer).json
    assert (points["default"], [point["name"] for point in points["operating_points"]]) == (
        "default",
        ["default", "sensitive"],
    )
    default, sensitive = points["operating_points"]
    assert 0.5 < sensitive["threshold"] < default["threshold"] < 1
    assert live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "door", "uri": DEMO}).status == 201
    path = f"{ROOT}/streams/door"
    shown = live.ask("GET", path, live.viewer).json
    assert (shown["operating_point"], shown["threshold"]) == ("default", default["threshold"])
    changed = live.ask("PATCH", path, live.operator, {"operating_point": "sensitive"}).json
    holds("Stream", changed)
    assert (changed["operating_point"], changed["threshold"]) == ("sensitive", sensitive["threshold"])
    live.ask("PATCH", path, live.operator, {"threshold": 0.75})
    renamed = live.ask("PATCH", path, live.operator, {"name": "gate"}).json
    assert (renamed["name"], renamed["operating_point"], renamed["threshold"]) == ("gate", "by hand", 0.75)
    both = live.ask("PATCH", f"{ROOT}/streams/gate", live.operator, {"name": "door", "operating_point": "default"})
    assert (both.json["name"], both.json["operating_point"]) == ("door", "default")
    assert both.headers["Content-Location"] == path


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "body"),
        ({"threshold": 0.99}, "body"),
        ({"threshold": 0.5, "operating_point": "default"}, "body"),
        ({"threshold": "0.5"}, "body"),
        ({"threshold": True}, "body"),
        ({"operating_point": "strict"}, "operating-point"),
        ({"name": "gate", "operating_point": "strict"}, "operating-point"),
    ],
)
def test_changes_that_are_none_change_nothing(live, body, problem):
    live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "door", "uri": DEMO})
    answer = live.ask("PATCH", f"{ROOT}/streams/door", live.operator, body)
    assert (answer.status, answer.problem) == (422, problem)
    shown = live.ask("GET", f"{ROOT}/streams/door", live.viewer).json
    assert (shown["name"], shown["operating_point"]) == ("door", "default")


def test_more_streams_than_allowed_are_refused(live):
    for name in "abc":
        assert live.ask("POST", f"{ROOT}/streams", live.operator, {"name": name, "uri": DEMO}).status == 201
    fourth = live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "d", "uri": DEMO})
    assert (fourth.status, fourth.problem) == (409, "too-many")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "a"}, "uri"),
        ({"name": "a/b", "uri": DEMO}, "name"),
        ({"name": 1, "uri": DEMO}, "name"),
        ({"name": "a", "uri": ""}, "uri"),
        ({"name": "a", "uri": "rtsp://bob:hunter2@x/" + "x" * 3000}, "uri"),
        ({"name": "a", "uri": DEMO, "url": "x"}, "url"),
    ],
)
def test_a_body_that_is_not_what_it_takes(live, body, field):
    answer = live.ask("POST", f"{ROOT}/streams", live.operator, body)
    assert (answer.status, answer.problem) == (422, "body")
    assert field in [error["field"] for error in answer.json["errors"]]
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"[]", 400), (b"\xff\xfe", 400), (b"[" * 60_000, 400)]
)
def test_a_body_that_is_no_json_object(live, body, status):
    assert live.ask("POST", f"{ROOT}/streams", live.operator, body).status == status


def test_a_body_of_another_type(live):
    answer = live.ask("POST", f"{ROOT}/streams", live.operator, b"name=a", {"Content-Type": "text/plain"})
    assert (answer.status, answer.problem) == (415, "type")


def test_a_stream_that_is_no_demo_is_said_so(live):
    answer = live.ask("POST", f"{ROOT}/streams", live.operator, {"name": "a", "uri": "demo:?speed=2"})
    assert (answer.status, answer.problem) == (403, "source-not-allowed")
    assert "unknown key 'speed'" in answer.json["detail"]


# Segments, evidence, labels.


def test_segments_are_listed_newest_first_and_in_pages(served):
    for number in range(5):
        served.api.take(flagged(number, stream="door" if number % 2 else "gate"))
    served.api.take(flagged(4, stream="gate", ended=7.5))
    page = served.ask("GET", f"{ROOT}/segments?limit=2", served.viewer).json
    assert [segment["track"] for segment in page["segments"]] == [4, 3]
    assert [segment["open"] for segment in page["segments"]] == [False, True]
    for segment in page["segments"]:
        holds("Segment", segment)
    rest = served.ask("GET", f"{ROOT}/segments?before={page['before']}", served.viewer).json
    assert [segment["track"] for segment in rest["segments"]] == [2, 1, 0]
    assert rest["before"] is None
    doors = served.ask("GET", f"{ROOT}/segments?stream=door&state=flagged", served.viewer).json
    assert [segment["track"] for segment in doors["segments"]] == [3, 1]
    assert served.ask("GET", f"{ROOT}/segments?state=clear", served.viewer).json["segments"] == []
    assert served.ask("GET", f"{ROOT}/segments/r1.s4", served.viewer).json["ended_at"] == "2023-11-14T22:13:27.500Z"
    assert served.ask("GET", f"{ROOT}/segments/r1.s9", served.viewer).problem == "no-segment"


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "state=good", "page=2"])
def test_a_query_that_is_not_known(served, query):
    answer = served.ask("GET", f"{ROOT}/segments?{query}", served.viewer)
    assert (answer.status, answer.problem) == (400, "query")


@pytest.fixture
def kept(tmp_path):
    folder = tmp_path / "evidence" / "door" / "r1.s1"
    folder.mkdir(parents=True)
    (folder / "clip.mp4").write_bytes(b"0123456789")
    (folder / "scores.json").write_text("{}")
    (folder / "notes.txt").write_text("not given out")
    return tmp_path / "evidence"


def test_evidence_is_listed_and_read(tmp_path, kept):
    with serving(tmp_path, evidence=kept) as served:
        base = f"{ROOT}/segments/r1.s1/evidence"
        listed = served.ask("GET", base, served.viewer).json
        assert [(file["name"], file["size"]) for file in listed["files"]] == [("clip.mp4", 10), ("scores.json", 2)]
        clip = served.ask("GET", listed["files"][0]["href"], served.viewer)
        assert (clip.status, clip.body, clip.headers["Content-Type"]) == (200, b"0123456789", "video/mp4")
        assert clip.headers["X-Content-Type-Options"] == "nosniff"
        part = served.ask("GET", f"{base}/clip.mp4", served.viewer, headers={"Range": "bytes=2-4"})
        assert (part.status, part.body) == (206, b"234")
        assert served.ask("GET", f"{base}/clip.mp4", served.viewer, headers={"Range": "bytes=99-"}).status == 416
        for missing in ("notes.txt", "clip.mkv", "", "%00"):
            assert served.ask("GET", f"{base}/{missing}", served.viewer).status == 404
        assert served.ask("GET", f"{ROOT}/segments/r1.s2/evidence", served.viewer).problem == "no-evidence"


def test_without_evidence_nothing_is_found(served):
    assert served.ask("GET", f"{ROOT}/segments/r1.s1/evidence", served.viewer).problem == "no-evidence"


def test_a_label_is_on_the_disk_before_the_answer(served, tmp_path):
    served.api.take(flagged(1))
    body = {"segment_id": "r1.s1", "label": "authentic", "note": "Ein Spiegel, kein Gesicht"}
    answer = served.ask("POST", f"{ROOT}/labels", served.operator, body)
    assert answer.status == 201
    holds("KeptLabel", answer.json)
    assert answer.json["by"] == "otto"
    assert answer.json["segment"]["score"] == {"mean": 0.817574, "peak": 0.924142}, "it stands alone"
    assert not {"open", "label"} & answer.json["segment"].keys()
    with (tmp_path / "labels.jsonl").open("ab") as torn:
        torn.write(b'{"cut')
    served.api.take(flagged(1, ended=5.0))
    second = served.ask("POST", f"{ROOT}/labels", served.operator, body | {"label": "unsure"})
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    form = {"format": "streamguard.label.v1"}
    assert [json.loads(lines[0]), lines[1]] == [form | answer.json, '{"cut']
    assert json.loads(lines[2]) == form | second.json
    shown = served.ask("GET", f"{ROOT}/segments/r1.s1", served.viewer).json
    holds("Segment", shown)
    assert (shown["open"], shown["label"]) == (False, {k: v for k, v in second.json.items() if k != "segment"})


def test_labels_are_listed_to_whoever_may_read(served):
    for number in (1, 2):
        served.api.take(flagged(number))
        body = {"segment_id": f"r1.s{number}", "label": "authentic"}
        assert served.ask("POST", f"{ROOT}/labels", served.operator, body).status == 201
    page = served.ask("GET", f"{ROOT}/labels?limit=1", served.viewer).json
    assert [label["segment_id"] for label in page["labels"]] == ["r1.s2"]
    holds("KeptLabel", page["labels"][0])
    rest = served.ask("GET", f"{ROOT}/labels?before={page['before']}", served.viewer).json
    assert ([label["segment_id"] for label in rest["labels"]], rest["before"]) == (["r1.s1"], None)
    assert len(served.ask("GET", f"{ROOT}/labels?segment=r1.s1", served.viewer).json["labels"]) == 1
    assert served.ask("GET", f"{ROOT}/labels?page=2", served.viewer).problem == "query"


def test_labels_that_are_not_taken(served, tmp_path):
    body = {"segment_id": "r1.s1", "label": "authentic"}
    assert served.ask("POST", f"{ROOT}/labels", served.operator, body).problem == "no-segment"
    served.api.take(flagged(1))
    assert served.ask("POST", f"{ROOT}/labels", served.operator, body | {"label": "good"}).problem == "body"
    (tmp_path / "labels.jsonl").unlink()
    (tmp_path / "labels.jsonl").mkdir()
    lost = served.ask("POST", f"{ROOT}/labels", served.operator, body)
    assert (lost.status, lost.problem) == (507, "label-lost")


def test_labels_need_a_file(tmp_path):
    with serving(tmp_path) as served:
        served.api.take(flagged(1))
        body = {"segment_id": "r1.s1", "label": "authentic"}
        assert served.ask("POST", f"{ROOT}/labels", served.operator, body).problem == "no-labels"
        assert served.ask("GET", f"{ROOT}/labels", served.viewer).problem == "no-labels"


# Events.


def test_events_of_a_stream_as_they_come(live):
    listener = Listener(live, "?stream=door")
    for name in ("gate", "door"):
        live.ask("POST", f"{ROOT}/streams", live.operator, {"name": name, "uri": "demo:?duration=2&pace=0"})
    told = []
    while not told or told[-1]["type"] != "streamguard.stream.down.v1":
        message = listener.read()
        told.append(json.loads(message["data"]))
        assert message["id"].startswith(f"{live.api.feed.run}.")
    listener.close()
    assert told[0]["type"] == "streamguard.stream.up.v1"
    assert {event["data"]["stream"] for event in told} == {"door"}
    for event in told:
        Draft202012Validator(event_schema()).validate(event)


def test_a_listener_goes_on_where_it_left(served):
    for number in range(3):
        served.api.take(flagged(number))
    first = Listener(served, last=f"{served.api.feed.run}.1")
    assert [json.loads(first.read()["data"])["data"]["track"] for _ in range(2)] == [1, 2]
    served.api.take(flagged(3))
    message = first.read()
    assert (message["id"], json.loads(message["data"])["data"]["track"]) == (f"{served.api.feed.run}.4", 3)
    first.close()


def test_what_can_not_be_made_up_for_is_told(served):
    for number in range(BOUND + 10):
        served.api.take(flagged(number))
    late = Listener(served, last=f"{served.api.feed.run}.4")
    assert late.read() == {"event": "gap", "data": '{"missed": 6}'}
    assert late.read()["id"] == f"{served.api.feed.run}.11"
    late.close()
    foreign = Listener(served, last="abc.7")
    assert foreign.read() == {"event": "gap", "data": '{"missed": null}'}
    assert foreign.read()["id"] == f"{served.api.feed.run}.11"
    foreign.close()


def flood(served, seconds):
    """More events than sockets hold, until ``seconds`` are over."""
    number, deadline = 0, time.monotonic() + seconds
    event = flagged(0)
    event["data"]["reason"] = "x" * 100_000
    while time.monotonic() < deadline and not served.refusals("slow reader"):
        for _ in range(50):
            served.api.take(event)
            number += 1
        time.sleep(0.01)


@pytest.mark.slow
def test_a_slow_reader_is_told_and_let_go(tmp_path):
    with serving(tmp_path, limits=LimitSettings(patience=60.0)) as served:
        slow = Listener(served)
        pouring = threading.Thread(target=flood, args=(served, 60.0))
        pouring.start()
        time.sleep(1.0)  # the sockets fill, the ring goes on
        messages = []
        while (message := slow.read()) is not None:
            messages.append(message)
        pouring.join()
        slow.close()
    assert messages[-1]["event"] == "dropped"
    assert json.loads(messages[-1]["data"])["missed"] > 0
    assert served.refusals("slow reader") == 1


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_cut_off(tmp_path):
    with serving(tmp_path, limits=LimitSettings(patience=0.5)) as served:
        dead, lively = Listener(served), Listener(served, "?stream=other")
        flood(served, 60.0)
        assert served.refusals("slow reader") == 1
        with pytest.raises((http.client.IncompleteRead, OSError)):
            dead.answer.read()  # never came to its proper end
        served.api.take(flagged(1, stream="other"))
        assert "id" in lively.read(), "its neighbour does not notice"
        dead.close()
        lively.close()


def test_listeners_are_bounded(tmp_path):
    with serving(tmp_path, limits=LimitSettings(watchers=2)) as served:
        two = [Listener(served), Listener(served)]
        third = served.ask("GET", f"{ROOT}/events", served.viewer)
        assert (third.status, third.problem) == (503, "watchers")
        for each in two:
            each.close()


def test_a_file_of_an_allowed_folder(tmp_path, watching):
    video = write_video(tmp_path / "clip.mp4", patterns(50))
    allowed = AllowedSources(schemes=("file",), folders=(str(tmp_path),))
    with serving(tmp_path, guard=lambda: watching.guard, allow_sources=allowed) as served:
        watching.take = served.api.take
        body = {"name": "clip", "uri": str(video)}
        assert served.ask("POST", f"{ROOT}/streams", served.operator, body).status in (201, 409)
        until(lambda: any(entry.event["type"].endswith("down.v1") for entry in served.api.feed.after(0).events))
        reasons = [entry.event["data"].get("reason") for entry in served.api.feed.after(0).events]
    assert reasons[-1] == "end of stream"


def test_one_machine_is_no_fleet(served):
    answer = served.ask("GET", f"{ROOT}/fleet", served.viewer)
    assert (answer.status, answer.problem) == (404, "no-fleet")
