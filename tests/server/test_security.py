"""What an attacker would try, tried: docs/security.md says which test holds which threat. Real server, real sockets."""

import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from streamguard.access import ApiSettings, LimitSettings, TlsSettings
from streamguard.errors import UsageError
from streamguard.metrics import Metrics
from streamguard.server.api import ROOT
from streamguard.server.app import Address, Server
from streamguard.server.auth import Role, TokenFile
from streamguard.server.doors import HEADERS
from tests.serving import LOCAL, WELL, flagged, serving, until

COMMAND = [sys.executable, "-c", "from streamguard.cli import main; main()"]


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path) as running:
        yield running


def raw(served):
    return socket.create_connection(served.server.address, timeout=60)


# Where it listens.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_listening_elsewhere_without_tokens_is_refused_by_name(host):
    with pytest.raises(UsageError, match=r"needs tokens: set api\.tokens .* tokens add NAME") as caught:
        Server(Metrics(), WELL, Address(host, 0))
    assert caught.value.exit_code == 2


def test_a_file_without_a_token_is_not_enough(tmp_path):
    settings = ApiSettings(tokens=str(tmp_path / "tokens.json"))
    with pytest.raises(UsageError, match=r"tokens\.json' has none"):
        Server(Metrics(), WELL, Address("0.0.0.0", 0), settings)


def test_elsewhere_with_tokens_but_without_tls_is_said(tmp_path, caplog):
    TokenFile(tmp_path / "tokens.json").add("anna", Role.VIEWER)
    Server(Metrics(), WELL, Address("0.0.0.0", 0), ApiSettings(tokens=str(tmp_path / "tokens.json")))
    assert "tokens travel in clear text" in caplog.text


# Headers.


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nothing", f"{ROOT}/streams", f"{ROOT}/openapi.json"])
def test_every_answer_carries_the_security_headers(served, path):
    for token in (None, served.viewer):
        answer = served.ask("GET", path, token)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] is None
        assert "no-store" in answer.headers["Cache-Control"]
    bad = raw(served)
    bad.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert b" 400 " in bad.recv(65_536)
    bad.close()


# Metrics.


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}, {"Host": "[x"}],
    ids=["rebound name", "proxied", "proxied by RFC 7239", "no host"],
)
def test_metrics_are_open_to_this_machine_and_for_it_alone(served, headers):
    assert served.ask("GET", "/metrics").status == 200
    assert served.ask("GET", "/metrics", headers=headers).status in (400, 401)
    assert served.ask("GET", "/metrics", served.viewer, headers={"X-Forwarded-For": "203.0.113.9"}).status == 200


def test_metrics_behind_a_token_or_open(tmp_path):
    with serving(tmp_path, metrics="token") as served:
        assert served.ask("GET", "/metrics").problem == "token"
        assert served.ask("GET", "/metrics", served.viewer).status == 200
    (tmp_path / "open").mkdir()
    with serving(tmp_path / "open", metrics="open") as served:
        assert served.ask("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status == 200


# Too much, too slow.


def test_too_many_requests(tmp_path):
    with serving(tmp_path, limits=LimitSettings(rate=0.001, burst=3)) as served:
        assert [served.ask("GET", "/nothing").status for _ in range(5)] == [404, 404, 404, 429, 429]
        refused = served.ask("GET", f"{ROOT}/streams", served.viewer)
        assert (refused.status, refused.problem) == (429, "rate")
        assert int(refused.headers["Retry-After"]) > 100
        assert served.ask("GET", "/livez").status == 200, "a supervisor is never refused"
        assert served.refusals("rate") == 3
        files = [served.ask("GET", "/page/main.js").status for _ in range(31)]
        assert files == [200] * 30 + [429], "a page is some twenty of them"


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversize_body_is_not_read(served, chunked):
    size = 10 * 2**30
    head = f"POST {ROOT}/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.operator}\r\n"
    head += "Content-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {size}\r\n\r\n"
    block = b"[" * 65_536
    before, most = resident(), 0
    with raw(served) as client, suppress(OSError):  # until it hangs up on us
        client.sendall(head.encode())
        while True:
            client.sendall(b"10000\r\n" + block + b"\r\n" if chunked else block)
            most = max(most, resident())
    assert most - before < 64 * 2**20, "what comes is not kept"
    assert served.ask("GET", "/livez").status == 200


def resident():
    """Memory of this process, the server's too, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_body_that_unpacks_to_more_than_allowed(served):
    bomb = gzip.compress(b"[" * (50 * 2**20))
    answer = served.ask("POST", f"{ROOT}/streams", served.operator, bomb, {"Content-Encoding": "gzip"})
    assert (answer.status, answer.problem) == (413, "too-large")


@pytest.mark.parametrize("what", ["line", "field", "fields"])
def test_an_oversize_head_is_refused(served, what):
    many = "".join(f"X-{number}: x\r\n" for number in range(1000))
    head = {
        "line": f"GET /{'x' * 100_000} HTTP/1.1\r\nHost: x\r\n\r\n",
        "field": f"GET / HTTP/1.1\r\nHost: x\r\nX: {'x' * 100_000}\r\n\r\n",
        "fields": f"GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n",
    }[what]
    with raw(served) as client:
        client.sendall(head.encode())
        assert client.recv(65_536).split(b" ")[1] in (b"400", b"431")


def test_a_slow_head_is_cut_off_and_others_are_served(tmp_path):
    """Slow loris: a byte now and then, for ever, on every connection that one client may have."""
    with serving(tmp_path, limits=LimitSettings(idle=1.0, per_client=8)) as served:
        clients = [raw(served) for _ in range(7)]
        over = threading.Event()

        def drip():
            while not over.wait(0.1):
                for client in clients:
                    try:
                        client.sendall(b"X")
                    except OSError:
                        return

        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        dripping = threading.Thread(target=drip)
        dripping.start()
        assert served.ask("GET", "/livez").status == 200
        for client in clients:
            assert closed(client)
        over.set()
        dripping.join()
        for client in clients:
            client.close()


def test_a_slow_body_is_cut_off(tmp_path):
    with serving(tmp_path, limits=LimitSettings(idle=0.5)) as served, raw(served) as client:
        head = f"POST {ROOT}/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.operator}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = client.recv(65_536)
        assert b" 408 " in answer
        assert closed(client)


def test_an_idle_connection_is_closed(tmp_path):
    with serving(tmp_path, limits=LimitSettings(idle=0.5)) as served:
        with raw(served) as silent:
            assert closed(silent)
        with raw(served) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in client.recv(65_536)
            assert closed(client)


def test_connections_are_bounded_a_client_and_in_all(tmp_path):
    with serving(tmp_path, limits=LimitSettings(per_client=3, connections=5)) as served:
        held = [raw(served) for _ in range(3)]
        for client in held:  # each is known to be served before the fourth comes
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in client.recv(65_536)
        with raw(served) as fourth:
            assert closed(fourth)
        neighbour = socket.create_connection(served.server.address, timeout=60, source_address=("127.0.0.2", 0))
        neighbour.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in neighbour.recv(65_536)
        assert served.refusals("connections") == 1
        for client in (*held, neighbour):
            client.close()
        until(lambda: _answers(served))


def closed(client):
    """Whether the server closes a connection, sooner or later."""
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def _answers(served):
    try:
        return served.ask("GET", "/livez").status == 200
    except OSError:
        return False


# Where files lie.


@pytest.fixture
def folders(tmp_path):
    """Evidence with a secret beside it, and links that lead out."""
    (tmp_path / "secret.json").write_text("top secret")
    segment = tmp_path / "evidence" / "door" / "r1.s1"
    segment.mkdir(parents=True)
    (segment / "clip.mp4").write_bytes(b"clip")
    (segment / "link.json").symlink_to(tmp_path / "secret.json")
    (segment / "pipe.json").mkdir()
    (segment / ".hidden.json").write_text("top secret")
    (tmp_path / "evidence" / "door" / "r1.out").symlink_to(tmp_path)
    (tmp_path / "evidence" / "linked").symlink_to(tmp_path)
    (tmp_path / "r1.s3").mkdir()
    (tmp_path / "r1.s3" / "clip.mp4").write_text("top secret")
    return tmp_path / "evidence"


@pytest.mark.parametrize(
    "path",
    [
        "r1.s1/evidence/..%2f..%2f..%2fsecret.json",
        "r1.s1/evidence/../../../../secret.json",
        "r1.s1/evidence/..%252f..%252fsecret.json",
        "r1.s1/evidence/%2e%2e",
        "r1.s1/evidence/..\\..\\secret.json",
        "r1.s1/evidence/link.json",
        "r1.s1/evidence/pipe.json",
        "r1.s1/evidence/.hidden.json",
        "r1.s1/evidence/clip.mp4%00.json",
        "r1.s1/evidence//etc/passwd",
        "r1.out/evidence/secret.json",
        "r1.s3/evidence/clip.mp4",
        "../evidence/secret.json",
        "%2e%2e/evidence/secret.json",
        "..%2fdoor%2fr1.s1/evidence/clip.mp4",
        "./evidence/clip.mp4",
    ],
)
def test_no_path_leads_out_of_the_evidence(tmp_path, folders, path):
    with serving(tmp_path, evidence=folders) as served:
        answer = served.ask("GET", f"{ROOT}/segments/{path}", served.viewer)
        assert (answer.status, b"top secret" in answer.body) == (404, False)
        listed = served.ask("GET", f"{ROOT}/segments/r1.s1/evidence", served.viewer).json
    assert [file["name"] for file in listed["files"]] == ["clip.mp4"]


def test_a_forged_stream_in_an_event_leads_nowhere(tmp_path, folders):
    with serving(tmp_path, evidence=folders) as served:
        served.api.take(flagged(3, stream=".."))
        assert served.ask("GET", f"{ROOT}/segments/r1.s3/evidence", served.viewer).status == 404


# TLS.


def certificate(folder, name="localhost"):
    """A self-signed certificate of a made name, by Debian's openssl."""
    paths = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(paths[1]), "-out", str(paths[0]), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return TlsSettings(*map(str, paths))


def test_tls_and_its_reload(tmp_path):
    tls = certificate(tmp_path, "first")
    context = ssl.create_default_context(cafile=tls.certificate)
    with serving(tmp_path, tls=tls, trust=context) as served:
        answer = served.ask("GET", f"{ROOT}/streams", served.viewer)
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert served.server.url.startswith("https://")
        with raw(served) as clear:
            clear.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP" not in clear.recv(100), "nothing is told in clear"
        Path(tls.key).write_text("torn")
        served.server.reload()  # a mistake changes nothing
        assert served.ask("GET", "/livez").status == 200
        certificate(tmp_path, "second")
        served.server.reload()
        served.trust = ssl.create_default_context(cafile=tls.certificate)
        until(lambda: _answers(served))


@pytest.mark.parametrize("mistake", ["absent", "torn", "foreign", "locked"])
def test_a_certificate_that_can_not_be_used_is_refused_at_the_start(tmp_path, mistake):
    tls = certificate(tmp_path)
    if mistake == "absent":
        Path(tls.certificate).unlink()
    elif mistake == "torn":
        Path(tls.certificate).write_text("-----BEGIN CERTIFICATE-----\n")
    elif mistake == "foreign":
        (tmp_path / "other").mkdir()
        Path(certificate(tmp_path / "other").key).replace(tls.key)
    else:
        locked = tmp_path / "locked.pem"
        command = ["openssl", "ec", "-in", tls.key, "-aes256", "-passout", "pass:made-up", "-out", str(locked)]
        subprocess.run(command, check=True, capture_output=True)
        locked.replace(tls.key)
    with pytest.raises(UsageError, match=r"api\.tls: .*cert\.pem' with .*key\.pem'"):
        Server(Metrics(), WELL, LOCAL, ApiSettings(tls=tls))


# Secrets.

PLANTED = {"stream password": "Pl4ntedCameraPw", "stream token": "Pl4ntedQueryTok", "webhook": "Pl4ntedWebhookKey"}


@pytest.mark.slow
def test_no_secret_is_told_anywhere(tmp_path):
    """A run with secrets in it, its API used and misused, ended by a crash: none is in what it wrote or said."""
    token_file = tmp_path / "tokens.json"
    tokens = [TokenFile(token_file).add(name, Role.OPERATOR) for name in ("otto",)]
    password, query = PLANTED["stream password"], PLANTED["stream token"]
    (tmp_path / "streamguard.yaml").write_text(
        f"""
node: studio
listen: 127.0.0.1:0
events: events.jsonl
streams:
  - {{name: made, uri: "demo:?duration=600"}}
  - {{name: away, uri: "${{CAMERA}}"}}
api:
  tokens: {token_file}
  labels: labels.jsonl
  allow_sources: {{schemes: [rtsp, http, demo], networks: [127.0.0.0/8]}}
outbox: {{path: outbox.db}}
sinks:
  - {{name: newsroom, type: webhook, url: "http://127.0.0.1:9/hook?token={query}", secret_env: HOOK_KEY}}
"""
    )
    said = tmp_path / "said.txt"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOOK_KEY": PLANTED["webhook"] + "0123456789",
        "CAMERA": f"rtsp://bob:{password}@127.0.0.1:9/live?token={query}",
        "PYTHONFAULTHANDLER": "1",
    }
    command = [*COMMAND, "--log-level", "debug", "serve", "--config", "streamguard.yaml"]
    with said.open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: b"/metrics" in said.read_bytes(), 120)
            base = next(word for word in said.read_text().split() if word.endswith("/metrics")).removesuffix("/metrics")
            until(lambda: _reached(f"{base}/readyz"), 240)
            answers = [_use(base, tokens[0], password, query)]
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            until(lambda: b"next attempt" in said.read_bytes(), 120)
            until(lambda: b"newsroom" in said.read_bytes(), 120)
            answers.append(_reached(f"{base}/metrics"))
            process.send_signal(signal.SIGABRT)
            process.wait(120)
        finally:
            process.kill()
            process.wait()
    places = {"arguments": arguments} | {f"answer {number}": answer for number, answer in enumerate(answers)}
    places |= {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places.pop("streamguard.yaml")  # where the administrator wrote one
    assert {"said.txt", "events.jsonl", "tokens.json", "labels.jsonl", "outbox.db"} <= set(places)
    assert b"Fatal Python error" in places["said.txt"], "the crash was seen"
    secrets = [*PLANTED.values(), *(token.split("_", 2)[2] for token in tokens)]
    found = {(place, secret) for place, content in places.items() for secret in secrets if secret.encode() in content}
    assert found == set()


def _reached(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except OSError:
        return b""


def _use(base, token, password, query):
    """Ask for much, rightly and wrongly, with secrets in it; all that was answered."""
    told = []
    uri = f"rtsp://bob:{password}@127.0.0.1:9/cam?token={query}"
    asked = [
        ("POST", "/streams", {"name": "cam", "uri": uri}),
        ("POST", "/streams", {"name": "cam", "uri": uri}),
        ("POST", "/streams", {"name": "b d", "uri": uri}),
        ("POST", "/streams", {"name": "far", "uri": f"rtsp://bob:{password}@192.0.2.1/?token={query}"}),
        ("POST", "/streams", {"name": "ftp", "uri": f"ftp://bob:{password}@192.0.2.1/?token={query}"}),
        ("POST", "/streams", {"name": "web", "uri": f"http://bob:{password}@127.0.0.1:9/a.m3u8?token={query}"}),
        ("GET", "/streams", None),
        ("GET", "/segments", None),
        ("PATCH", "/streams/cam", {"name": "camera"}),
        ("DELETE", "/streams/camera", None),
        ("GET", f"/streams/{password}", None),
    ]
    for method, path, body in asked:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{base}/api/v1{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                told.append(answer.read())
        except urllib.error.HTTPError as refused:
            told.append(refused.read())
    assert b'"name": "cam"' in told[0], told[0]
    return b"\n".join(told[:-1])  # the last one repeats the path that was asked for
