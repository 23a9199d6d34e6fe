"""serve: the API with streams that come and go, until it is told to end."""

import json
import signal
import urllib.error
import urllib.request

import pytest

from streamguard.server.auth import Role, TokenFile
from tests.serving import until


def ask(base, token, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}/api/v1/streams", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ready(base):
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_it_serves_without_a_stream_and_ends_when_told(spawn, tmp_path):
    token = TokenFile(tmp_path / "tokens.json").add("otto", Role.OPERATOR)
    (tmp_path / "streamguard.yaml").write_text("api: {tokens: tokens.json, allow_sources: {schemes: [demo]}}\n")
    with spawn("serve", "--config", "streamguard.yaml", "--events", "events.jsonl") as process:
        base = process.stdout.readline().split()[3].removesuffix("/metrics")
        until(lambda: ready(base), 240)
        assert ask(base, token)["streams"] == []
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{base}/whip/cam", data=b"v=0", timeout=60)
        refused.value.close()
        ask(base, token, "POST", {"name": "made", "uri": "demo:?duration=2&pace=0"})
        until(lambda: "stream.down" in (tmp_path / "events.jsonl").read_text())
        until(lambda: ask(base, token)["streams"] == [])
        assert process.poll() is None, "it stays"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: null\n", "`streamguard serve` needs an address"),
        ("listen: 0.0.0.0:0\n", "Listening on 0.0.0.0, where others reach it, needs tokens: set api.tokens"),
        ("api: {tls: {certificate: a.pem, key: b.pem}}\n", "api.tls: 'a.pem' with 'b.pem' can't be read"),
        ("api: {labels: nowhere/l.jsonl}\n", "api.labels: 'nowhere/l.jsonl' can't take labels"),
        ("api: {allow_sources: {schemes: [rtmp]}}\n", "scheme 'rtmp' can't be allowed"),
        ("api: {limits: {rate: 0}}\n", "rate is 0.0; expected more than 0"),
        ("api: {token: a}\n", "'api.token' is not known; did you mean 'tokens'?"),
    ],
)
def test_what_can_not_be_meant_starts_nothing(streamguard, tmp_path, monkeypatch, text, message):
    monkeypatch.delenv("STREAMGUARD_LISTEN")
    (tmp_path / "streamguard.yaml").write_text(text)
    result = streamguard("serve", "--config", "streamguard.yaml")
    assert result.exit_code == 2
    assert message in result.stderr
