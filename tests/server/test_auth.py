"""Tokens: made once, kept as hashes, checked by role, guessed in vain; over real sockets where there is a client."""

import asyncio
import json
import os
import stat

import pytest

from streamguard.access import LimitSettings
from streamguard.errors import UsageError
from streamguard.server import auth
from streamguard.server.auth import Busy, Role, TokenFile, is_loopback
from tests.serving import LOCAL, WELL, serving

WRONG = "sg_0123456789ab_" + "A" * 43


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


def check(file, text):
    return asyncio.run(file.check(text))


def test_a_token_is_kept_as_a_hash_in_a_private_file(path):
    token = TokenFile(path).add("anna", Role.VIEWER)
    secret = token.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["tokens.json"]


def test_two_tokens_of_one_secret_would_not_look_alike(path):
    file = TokenFile(path)
    first, second = file.add("a", Role.VIEWER), file.add("b", Role.VIEWER)
    assert first != second
    assert len({token.salt for token in file.tokens()}) == 2


def test_the_right_token_is_found_and_no_other(path):
    file = TokenFile(path)
    token = file.add("anna", Role.OPERATOR)
    found = check(file, token)
    assert (found.name, found.role) == ("anna", Role.OPERATOR)
    assert check(file, token) is found, "the second time without scrypt"
    swapped = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (swapped, WRONG, token + "A", token.upper(), "", "sg_", f"{token}\n", "sg_" + "é" * 50):
        assert check(file, wrong) is None


@pytest.mark.parametrize("known", [True, False])
def test_the_time_tells_nothing_of_the_ids(path, known, monkeypatch):
    """A wrong secret costs the same work whether there is a token of that id or not."""
    file = TokenFile(path)
    token = file.add("anna", Role.VIEWER)
    worked, scrypt = [], auth._scrypt

    def counted(text, salt):
        worked.append(len(salt))
        return scrypt(text, salt)

    monkeypatch.setattr(auth, "_scrypt", counted)
    swapped = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert check(file, swapped if known else WRONG) is None
    assert worked == [16]


def test_a_token_that_was_right_is_refused_once_it_is_removed(path):
    file, other = TokenFile(path), TokenFile(path)
    token, kept = file.add("anna", Role.VIEWER), file.add("otto", Role.VIEWER)
    assert check(file, token) is not None
    other.remove("anna")
    assert check(file, token) is None
    assert check(file, kept).name == "otto"
    path.unlink()
    assert check(file, kept) is None


def test_a_token_that_expires_is_right_until_then(path):
    now = 1_800_000_000.0
    file = TokenFile(path, clock=lambda: now)
    lasting, passing = file.add("anna", Role.VIEWER), file.add("laptop", Role.SENDER, hours=2.0)
    found = check(file, passing)
    assert (found.expires, file.expired(found), file.stands(found)) == ("2027-01-15T10:00:00Z", False, True)
    now += 7200.0
    assert check(file, passing).expired(now), "it is told apart from one that is wrong"
    assert not file.stands(found)
    assert file.stands(check(file, lasting))
    file.remove("anna")
    assert not file.stands(found)


def test_more_checks_than_may_wait_are_sent_away(path):
    file = TokenFile(path)
    file.add("anna", Role.VIEWER)

    async def guess():
        return await asyncio.gather(*(file.check(WRONG) for _ in range(12)), return_exceptions=True)

    results = asyncio.run(guess())
    assert sum(isinstance(result, Busy) for result in results) == 4
    assert [result for result in results if not isinstance(result, Busy)] == [None] * 8


@pytest.mark.parametrize(
    ("name", "message"),
    [("anna", "has a token 'anna' already"), ("a/b", "expected 1 to 64"), (".x", "expected 1 to 64")],
)
def test_unfit_names(path, name, message):
    file = TokenFile(path)
    file.add("anna", Role.VIEWER)
    with pytest.raises(UsageError, match=message):
        file.add(name, Role.VIEWER)


def test_what_is_not_there_can_not_be_removed(path):
    with pytest.raises(UsageError, match="has no token 'anna'"):
        TokenFile(path).remove("anna")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"tokens": [{"id": "x"}]}', '{"tokens": 1}', "\xff", '{"tokens": [1]}']
)
def test_a_file_of_another_kind_is_named(path, text):
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"tokens\.json' is no file of `streamguard tokens`"):
        TokenFile(path).tokens()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"can't be written: No such file"):
        TokenFile(tmp_path / "nowhere" / "tokens.json").add("anna", Role.VIEWER)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example.net", False),
        ("", False),
    ],
)
def test_loopback(host, here):
    assert is_loopback(host) is here


# At the door.


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path) as running:
        yield running


@pytest.mark.parametrize("path", ["/api/v1/streams", "/api/v1/segments", "/api/v1/events", "/api/v1/nothing"])
def test_without_a_token_nothing_of_the_api_is_told(served, path):
    answer = served.ask("GET", path)
    assert (answer.status, answer.problem) == (401, "token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="streamguard"'
    assert served.refusals("no token") == 1


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", f"Bearer {WRONG}", "bearer x", "Token a b"])
def test_what_is_no_token_of_this_server(served, header):
    answer = served.ask("GET", "/api/v1/streams", headers={"Authorization": header})
    assert (answer.status, answer.problem) == (401, "token")


def test_a_token_in_the_address_is_no_token(served):
    assert served.ask("GET", f"/api/v1/streams?token={served.viewer}").status == 401


def test_a_viewer_reads_and_an_operator_changes(served):
    stream = {"name": "a", "uri": "demo:"}
    assert served.ask("GET", "/api/v1/streams", served.viewer).json["streams"] == []
    assert served.ask("GET", "/api/v1/streams", served.operator).status == 200
    refused = served.ask("POST", "/api/v1/streams", served.viewer, stream)
    assert (refused.status, refused.problem) == (403, "role")
    assert "token 'anna' is a viewer's" in refused.json["detail"]
    assert served.ask("PATCH", "/api/v1/streams/a", served.viewer, {"threshold": 0.5}).problem == "role"
    for method in ("PATCH", "DELETE"):
        assert served.ask(method, "/api/v1/streams/a", served.viewer, {"name": "b"}).problem == "role"
    assert served.ask("POST", "/api/v1/labels", served.viewer, {}).problem == "role"
    assert served.ask("POST", "/api/v1/streams", served.operator, stream).problem == "not-ready"


def test_guessing_ends_after_a_few_wrong_tokens(tmp_path):
    with serving(tmp_path, limits=LimitSettings(failures=3)) as served:
        answers = [served.ask("GET", "/api/v1/streams", WRONG).status for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        last = served.ask("GET", "/api/v1/streams", served.viewer)
        assert (last.status, last.problem) == (429, "failures"), "not even the right one: it would tell"
        assert int(last.headers["Retry-After"]) >= 1
        assert served.ask("GET", "/livez").status == 200
        assert served.refusals("failures") == 3


def test_a_server_without_tokens_keeps_its_api_shut(tmp_path):
    from streamguard.access import ApiSettings
    from streamguard.metrics import Metrics
    from streamguard.server.api import Api
    from streamguard.server.app import Server
    from tests.serving import Served

    metrics, settings = Metrics(), ApiSettings()
    api = Api(settings, lambda: None)
    with Server(metrics, WELL, LOCAL, settings, api) as server:
        answer = Served(server, api, metrics, "", "").ask("GET", "/api/v1/streams", WRONG)
    assert (answer.status, answer.problem) == (401, "token")
    assert "api.tokens names their file" in answer.json["detail"]


def test_tokens_that_become_unreadable_let_nobody_in(served, tmp_path, caplog):
    assert served.ask("GET", "/api/v1/streams", served.viewer).status == 200
    (tmp_path / "tokens.json").write_text("{")
    answer = served.ask("GET", "/api/v1/streams", served.viewer)
    assert (answer.status, answer.problem) == (503, "tokens")
    assert "is no file of `streamguard tokens`" in caplog.text
    assert "tokens.json" not in json.dumps(answer.json)
