"""watch and demo: the real chain on made streams, what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from datetime import datetime, timedelta
from itertools import pairwise

import av
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from streamguard.delivery.events import event_schema
from streamguard.ingest.demo import truth
from streamguard.ingest.source import open_source
from streamguard.pixels import picture_of, rgb_of
from tests.media import cut, patterns, write_sound, write_video
from tests.rtsp_server import RtspServer, require

FAST = "demo:?duration=4&pace=0"


def events_of(text):
    events = [json.loads(line) for line in text.splitlines()]
    validator = Draft202012Validator(event_schema())
    for event in events:
        validator.validate(event)
    return events


def kinds(events):
    return [event["type"].removeprefix("streamguard.").removesuffix(".v1") for event in events]


def test_people_read_standard_output(streamguard):
    result = streamguard("watch", FAST)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "demo  is up\n" in result.stdout
    assert "demo  has ended: end of stream\n" in result.stdout
    assert "Metrics and health: http://127.0.0.1:" in result.stdout


def test_machines_read_standard_output_alone(streamguard):
    result = streamguard("watch", FAST, "--events", "-", "--listen", "none")
    assert result.exit_code == 0
    events = events_of(result.stdout)
    assert kinds(events)[0] == "stream.up"
    assert kinds(events)[-1] == "stream.down"
    assert any(kind == "track.state" for kind in kinds(events))
    assert len({(event["source"], event["id"]) for event in events}) == len(events)
    assert "demo  is up" in result.stderr
    assert "Metrics" not in result.stderr


def test_events_in_a_file_from_a_configuration(streamguard, tmp_path):
    (tmp_path / "streamguard.yaml").write_text(
        f'node: a/b\nevents: events.jsonl\nlisten: null\nstreams: [{{name: made, uri: "{FAST}"}}]\n'
    )
    result = streamguard("watch", "--config", "streamguard.yaml")
    assert result.exit_code == 0
    assert {event["source"] for event in events_of((tmp_path / "events.jsonl").read_text())} == {
        "/streamguard/a%2Fb/made"
    }


def test_two_sources_of_one_name_are_told_apart(streamguard, tmp_path):
    (tmp_path / "a b").mkdir()
    for folder in (tmp_path, tmp_path / "a b"):
        write_video(folder / "my film.mp4", patterns(10))
    result = streamguard("watch", "my film.mp4", "a b/my film.mp4", "--events", "-")
    assert result.exit_code == 0
    assert {event["data"]["stream"] for event in events_of(result.stdout)} == {"my-film.mp4", "my-film.mp4-2"}


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("rtsp://media/live", "'rtsp://media/live' is one address for 2 streams. Put {stream} where their names go."),
        ("http://media/{stream}", "'http://media/{stream}' can't be published to. Name an RTSP server that records"),
    ],
)
def test_what_can_t_be_published_to_is_refused_before_anything_starts(streamguard, address, complaint):
    result = streamguard("watch", FAST, FAST, "--publish", address)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())
    assert result.stdout == ""


def green(picture):
    """Pixels of the colour in which a face that is clear is framed and labelled."""
    return int((np.abs(rgb_of(picture).astype(int) - [0, 110, 50]).max(-1) < 30).sum())


@pytest.mark.servers
def test_the_annotated_picture_is_published(streamguard, tmp_path):
    require()
    (tmp_path / "streamguard.yaml").write_text('listen: null\nstreams: [{name: live, uri: "demo:?duration=15"}]\n')
    with RtspServer(record=tmp_path / "recorded.mkv") as server:
        address = server.url.removesuffix("live") + "{stream}"
        result = streamguard("watch", "--config", "streamguard.yaml", "--publish", address)
        assert result.exit_code == 0
        with av.open(str(tmp_path / "recorded.mkv")) as file:
            shown = [green(picture_of(frame)) for frame in file.decode(video=0)]
    with open_source("demo:?duration=1&pace=0").open(1) as connection:
        filmed = [green(frame.picture) for frame in connection]
    assert len(shown) > 50
    assert max(shown) > max(filmed) + 2000


def test_a_bad_input_is_named_and_the_rest_goes_on(streamguard, tmp_path):
    write_video(tmp_path / "good.mp4", patterns(30))
    cut(write_video(tmp_path / "cut.mp4", patterns(60), muxer={"movflags": "frag_keyframe+empty_moov"}, gop=10), 0.6)
    write_sound(tmp_path / "sound.wav")
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "empty.mp4").touch()
    bad = ["missing.mp4", "sound.wav", "text.mp4", "empty.mp4"]
    result = streamguard("watch", "good.mp4", *bad, "--events", "events.jsonl")
    assert result.exit_code == 1
    downs = {
        event["data"]["stream"]: event["data"]["reason"]
        for event in events_of((tmp_path / "events.jsonl").read_text())
        if event["type"] == "streamguard.stream.down.v1"
    }
    assert downs.pop("good.mp4") == "end of stream"
    assert {name: name in reason for name, reason in downs.items()} == dict.fromkeys(bad, True)
    for name in bad:
        assert result.output.count(f"'{name}'") == 1, "each failure is told once"


def test_duration_ends_it(streamguard):
    result = streamguard("watch", "demo:?duration=3600", "--duration", "1", "--listen", "none")
    assert result.exit_code == 0
    assert "demo  has ended: stopped" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "There is nothing to watch"),
        (("gopher://x",), "unknown scheme 'gopher://'"),
        (("demo:?speed=2",), "unknown key 'speed'"),
        ((FAST, "--listen", "8080"), "--listen '8080': expected HOST:PORT"),
        ((FAST, "--events", "nowhere/e.jsonl"), "--events: 'nowhere/e.jsonl' can't take events"),
        ((FAST, "--config", "nowhere.yaml"), "configuration 'nowhere.yaml' can't be read"),
    ],
)
def test_wrong_use_starts_nothing(streamguard, arguments, message):
    result = streamguard("watch", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nod: a\n", "bad.yaml:1: 'nod' is not known; did you mean 'node'?"),
        ("sampling: {detect_every: often}\n", "bad.yaml:1: 'sampling.detect_every' is \"often\""),
        ("streams: [{name: a, uri: x.mp4}, {name: a, uri: y.mp4}]\n", "are both named 'a'"),
        ("streams: [{name: a, uri: 'ftp://x'}]\n", "unknown scheme 'ftp://'"),
        ("operating_point: best\nstreams: [{name: a, uri: 'demo:'}]\n", "no operating point 'best'"),
        ("detector: {engine: nope}\nstreams: [{name: a, uri: 'demo:'}]\n", "engine 'nope' is neither shipped"),
        ("detector: {variant: int3}\nstreams: [{name: a, uri: 'demo:'}]\n", "no variant 'int3'"),
    ],
)
def test_a_bad_configuration_starts_nothing(streamguard, tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    result = streamguard("watch", "--config", "bad.yaml")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "is up" not in result.output


def test_a_taken_port_starts_nothing(streamguard):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = streamguard("watch", FAST, "--listen", f"127.0.0.1:{port}")
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}: the port is taken" in result.stderr


def test_lost_events_are_a_failure(streamguard):
    result = streamguard("watch", FAST, "--events", "/dev/full")
    assert result.exit_code == 1
    assert "sink 'events' does not take events, they wait: '/dev/full' did not take event" in result.stderr
    assert "No space left on device. Make room there." in result.stderr
    assert "events for 'events' are lost: they had not gone out when the run ended" in result.stderr


def test_sinks_of_a_configuration_and_where_events_wait(streamguard, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "sinks: [{name: a, type: jsonl, path: a.jsonl}, {name: b, type: jsonl, path: b.jsonl}]\n"
        f'outbox: {{path: state/o.db}}\nlisten: null\nstreams: [{{name: made, uri: "{FAST}"}}]\n'
    )
    result = streamguard("watch", "--config", "c.yaml")
    assert result.exit_code == 0
    assert "Events wait in state/o.db until every sink has them." in result.stdout
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert kinds(events_of((tmp_path / "a.jsonl").read_text()))[-1] == "stream.down"
    assert "made  is up\n" in result.stdout


def test_the_outbox_has_a_place_of_its_own_without_being_told(streamguard, tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    (tmp_path / "c.yaml").write_text(
        f'sinks: [{{name: a, type: jsonl, path: a.jsonl}}]\nstreams: [{{name: made, uri: "{FAST}"}}]\n'
    )
    result = streamguard("watch", "--config", "c.yaml", "--listen", "none")
    assert result.exit_code == 0
    assert f"Events wait in {tmp_path}/state/outbox.db" in result.stdout
    assert (tmp_path / "state" / "outbox.db").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sinks: [{name: a, type: jsonl, path: nowhere/a.jsonl}]\n", "sink 'a': there is no folder"),
        ("sinks: [{name: a, type: pigeon}]\n", "c.yaml:"),
        ("sinks: [{name: a, type: jsonl, path: a.jsonl}]\noutbox: {path: c.yaml}\n", "'c.yaml' is no outbox of"),
    ],
)
def test_sinks_and_outboxes_that_start_nothing(streamguard, tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(f'{text}streams: [{{name: made, uri: "{FAST}"}}]\n')
    result = streamguard("watch", "--config", "c.yaml", "--listen", "none")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "is up" not in result.output


def test_demo(streamguard, tmp_path):
    result = streamguard("demo", "--seed", "3", "--duration", "2", "--truth", "truth.json", "--events", "-")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "truth.json").read_text()) == truth(3, 2.0)
    assert kinds(events_of(result.stdout))[-1] == "stream.down"
    assert "A made stream of 2 s, seed 3. Its face is forged: nowhere." in result.stderr


def test_a_truth_that_can_not_be_written(streamguard):
    result = streamguard("demo", "--truth", "nowhere/truth.json")
    assert result.exit_code == 2
    assert "'nowhere/truth.json' can't be written" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_while_it_serves(spawn, number):
    with spawn("watch", "demo:?duration=3600", "--events", "-") as process:
        first = json.loads(process.stdout.readline())
        assert first["type"] == "streamguard.stream.up.v1"
        served = process.stderr.readline().split()[3]
        with urllib.request.urlopen(served, timeout=30) as answer:
            families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
        assert "streamguard_stream_up" in families
        with urllib.request.urlopen(served.replace("metrics", "readyz"), timeout=30) as answer:
            assert json.load(answer) == {"status": "ok", "reasons": []}
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    last = events_of(output)[-1]
    assert (last["type"], last["data"]["reason"]) == ("streamguard.stream.down.v1", "stopped")
    assert process.returncode == 0, errors


def test_a_reader_that_leaves_ends_it(spawn):
    with spawn("watch", "demo:?duration=3600", "--events", "-", "--listen", "none") as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert "Events have no reader any more" in errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_folder_for_evidence_that_is_none_is_wrong_use(streamguard, tmp_path):
    (tmp_path / "file").touch()
    result = streamguard("watch", FAST, "--evidence", "file")
    assert result.exit_code == 2
    assert "evidence folder 'file' can't be used" in result.stderr


def test_evidence_is_kept_where_the_command_line_says(streamguard, flags_everything, tmp_path):
    (tmp_path / "streamguard.yaml").write_text(
        f"classifier: {{engine: {flags_everything}}}\n"
        "evidence: {folder: elsewhere, pre: 1.0, post: 0.5, longest: 1.0, reserve_bytes: 0}\n"
    )
    result = streamguard("watch", FAST, "--config", "streamguard.yaml", "--evidence", "kept")
    assert result.exit_code == 0
    assert len(list((tmp_path / "kept" / "demo").glob("*/manifest.json"))) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_after_a_kill_the_next_run_goes_on_where_it_was(spawn, tmp_path):
    """kill -9, then the same command again: the archive has every event of both runs, the earlier run's first."""
    (tmp_path / "c.yaml").write_text(
        "sinks: [{name: archive, type: jsonl, path: archive.jsonl}]\n"
        "outbox: {path: o.db}\nlisten: null\nstreams: [{name: made, uri: 'demo:?duration=3600'}]\n"
    )
    seen, ups = [], set()
    for number, runs in ((signal.SIGKILL, 1), (signal.SIGTERM, 2)):
        with spawn("watch", "--config", "c.yaml", "--events", "-") as process:
            while len(ups) < runs:
                seen.append(json.loads(process.stdout.readline()))
                ups |= {event["id"] for event in seen if event["type"] == "streamguard.stream.up.v1"}
            process.send_signal(number)
            seen += events_of(process.stdout.read())
            process.communicate(timeout=60)
    names = list(dict.fromkeys(event["id"] for event in seen))
    archived = [event["id"] for event in events_of((tmp_path / "archive.jsonl").read_text())]
    assert [name for name in dict.fromkeys(archived) if name in names] == names, "whatever was seen, and in that order"
    assert seen[-1]["type"] == "streamguard.stream.down.v1"
    assert process.returncode == 0


@pytest.mark.slow
def test_a_kill_while_a_face_is_flagged_closes_the_segment_as_inconclusive_restart(spawn, tmp_path):
    """kill -9 in the forged passage of the made stream, by the shipped engine; then the same command again."""
    (tmp_path / "c.yaml").write_text(
        "sinks: [{name: archive, type: jsonl, path: archive.jsonl}]\n"
        "outbox: {path: o.db}\nlisten: null\nstreams: [{name: made, uri: 'demo:?seed=11'}]\n"
    )
    seen = []
    with spawn("watch", "--config", "c.yaml", "--events", "-", stderr=subprocess.DEVNULL) as process:
        while kinds(seen).count("segment.updated") < 2:
            seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        seen += events_of(process.stdout.read())
    with spawn("watch", "--config", "c.yaml", "--duration", "1", stderr=subprocess.DEVNULL) as process:
        process.communicate(timeout=200)
    assert process.returncode == 0
    archived = {event["id"]: event for event in events_of((tmp_path / "archive.jsonl").read_text())}
    names = [event["id"] for event in seen]
    assert [name for name in archived if name in names] == names, "whatever was seen, and in that order"
    (segment,) = {event["data"]["segment_id"] for event in seen if event["type"].startswith("streamguard.segment.")}
    story = [event for event in archived.values() if event["data"].get("segment_id") == segment]
    assert kinds(story) == ["segment.opened", *["segment.updated"] * (len(story) - 2), "segment.closed"]
    *before, ending = story
    assert [event["data"]["state"] for event in before] == ["flagged"] * len(before)
    assert (ending["data"]["state"], ending["data"]["reason"]) == ("inconclusive", "restart")
    assert ending["data"]["ended_at"] == before[-1]["time"], "up to its last second, by the stream's own time:"
    times = [datetime.fromisoformat(event["time"]) for event in before]
    assert all(later - earlier <= timedelta(seconds=1.01) for earlier, later in pairwise(times))
