"""fleet: what can not be meant starts nothing. What it does: tests/fleet/test_cluster.py."""

import pytest

STREAM = "streams: [{name: door, uri: 'demo:'}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STREAM + "fleet: {leese: 5}\n", "streamguard.yaml:2: 'fleet.leese' is not known; did you mean 'lease'?"),
        (STREAM + "fleet: {lease: 1.0, beat: 1.0}\n", "lease is 1.0; expected at least three times beat, 3"),
        (STREAM + "fleet: {beat: 0}\n", "beat is 0.0; expected more than 0 seconds"),
        (STREAM + "fleet: {capacity: 0}\n", "capacity is 0; expected 1 or more"),
        (STREAM + "fleet: {load: 1.5}\n", "load is 1.5; expected more than 0, up to 1"),
        (
            "streams:\n- {name: door, uri: 'demo:'}\n- {name: hall, uri: 'demo:'}\n- {name: door, uri: 'demo:'}\n",
            "'streams[0]' and 'streams[2]' are both named 'door'",
        ),
        ("streams: [{name: door, uri: 'srt://camera:9'}]\n", "SRT is not decoded here"),
        ("fleet: {lease: 30}\n", "There is nothing to watch: the configuration has no streams."),
        (STREAM + "events: all.jsonl\n", "a fleet's events leave through each node's own sinks"),
        (STREAM + "fleet: {address: '127.0.0.1:1'}\n", "no Ray cluster at '127.0.0.1:1': [Errno 111]"),
        (STREAM + "fleet: {address: somewhere}\n", "no Ray cluster at 'somewhere': expected HOST:PORT"),
    ],
)
def test_what_can_not_be_meant_starts_nothing(streamguard, tmp_path, text, message):
    (tmp_path / "streamguard.yaml").write_text(text)
    result = streamguard("fleet", "--config", "streamguard.yaml")
    assert result.exit_code == 2, result.stderr
    assert message in " ".join(result.stderr.split())
