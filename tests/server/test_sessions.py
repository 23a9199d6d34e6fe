"""Sessions in place of tokens: the policy, and over real sockets what a browser, or another's page, would send."""

import http.cookies

import pytest

from streamguard.server.auth import Role, Token, TokenFile
from streamguard.server.sessions import BOUND, IDLE, LIFE, Sessions
from tests.clock import Clock
from tests.serving import serving

PATH = "/api/v1/session"
ANNA = Token("0" * 12, "anna", Role.VIEWER, "", "", "")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions(clock)


# The policy.


def test_a_session_is_found_by_its_secret_alone(sessions):
    secret, other = sessions.begin(ANNA), sessions.begin(ANNA)
    assert len(secret) == 43
    assert secret != other
    assert sessions.find(secret).token is ANNA
    assert sessions.find(secret[:-1]) is None
    sessions.end(secret)
    sessions.end(secret)
    assert sessions.find(secret) is None
    assert sessions.find(other).token is ANNA
    assert all(secret.encode() not in key for key in sessions._sessions), "hashes alone are kept"


def test_a_session_that_nobody_uses_ends(sessions, clock):
    secret = sessions.begin(ANNA)
    for _ in range(5):
        clock.now += IDLE - 1
        assert sessions.find(secret) is not None
    clock.now += IDLE
    assert sessions.find(secret) is None


def test_a_session_that_is_used_all_the_time_ends_too(sessions, clock):
    secret = sessions.begin(ANNA)
    for _ in range(int(LIFE // 1800) - 1):
        clock.now += 1800
        assert sessions.left(sessions.find(secret)) == pytest.approx(1000 + LIFE - clock.now)
    clock.now = 1000 + LIFE
    assert sessions.find(secret) is None


def test_sessions_are_bounded_and_the_one_not_heard_of_for_longest_goes(sessions):
    first, second = sessions.begin(ANNA), sessions.begin(ANNA)
    sessions.find(first)
    for _ in range(BOUND - 1):
        sessions.begin(ANNA)
    assert sessions.find(second) is None
    assert sessions.find(first) is not None


# The server.


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path, labels=str(tmp_path / "labels.jsonl")) as running:
        yield running


def sign_in(served, token):
    """The Set-Cookie of a new session, and the header that a browser sends from then on."""
    answer = served.ask("POST", PATH, token)
    assert answer.status == 201, answer
    (cookie,) = http.cookies.SimpleCookie(answer.headers["Set-Cookie"]).values()
    return cookie, {"Cookie": f"{cookie.key}={cookie.value}", "Sec-Fetch-Site": "same-origin"}


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_can_not_use(served):
    cookie, sent = sign_in(served, served.viewer)
    assert cookie.key == f"streamguard-{served.server.address.port}", "two servers of one machine do not share it"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (int(cookie["max-age"]), cookie["domain"], cookie["secure"]) == (LIFE, "", "")
    assert served.viewer not in cookie.value
    assert served.ask("GET", "/api/v1/segments", headers=sent).status == 200
    who = served.ask("GET", PATH, headers=sent).json
    assert (who["name"], who["role"]) == ("anna", "viewer")
    assert who["expires_at"] > "2026"


def test_behind_a_proxy_with_tls_the_cookie_is_secure(served):
    answer = served.ask("POST", PATH, served.viewer, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("token", [None, "sg_0123456789ab_" + "A" * 43])
def test_without_a_token_there_is_no_session(served, token):
    answer = served.ask("POST", PATH, token)
    assert (answer.status, answer.problem, answer.headers["Set-Cookie"]) == (401, "token", None)


def test_guessed_sessions_and_forged_cookies_are_none(served):
    cookie, _ = sign_in(served, served.viewer)
    for value in ("", "x", cookie.value[:-1], served.viewer):
        sent = {"Cookie": f"{cookie.key}={value}", "Sec-Fetch-Site": "same-origin"}
        answer = served.ask("GET", "/api/v1/segments", headers=sent)
        assert (answer.status, answer.problem) == (401, "session")


def test_a_session_has_its_tokens_role_and_does_not_renew_itself(served):
    _, viewer = sign_in(served, served.viewer)
    _, operator = sign_in(served, served.operator)
    body = {"segment_id": "s", "label": "unsure"}
    assert served.ask("POST", "/api/v1/labels", body=body, headers=viewer).problem == "role"
    assert served.ask("POST", "/api/v1/labels", body=body, headers=operator).problem == "no-segment"
    again = served.ask("POST", PATH, headers=operator)
    assert (again.status, again.problem, again.headers["Set-Cookie"]) == (409, "session", None)


def test_signing_out_ends_it(served):
    cookie, sent = sign_in(served, served.viewer)
    out = served.ask("DELETE", PATH, headers=sent)
    assert (out.status, out.headers["Clear-Site-Data"]) == (204, '"cache"')
    assert f'{cookie.key}=""' in out.headers["Set-Cookie"]
    assert served.ask("GET", PATH, headers=sent).problem == "session"
    assert served.ask("DELETE", PATH, served.viewer).problem == "no-session"


def test_a_session_ends_with_its_token(served, tmp_path):
    _, sent = sign_in(served, served.viewer)
    TokenFile(tmp_path / "tokens.json").remove("anna")
    assert served.ask("GET", "/api/v1/segments", headers=sent).problem == "session"
    TokenFile(tmp_path / "tokens.json").add("anna", Role.OPERATOR)
    assert served.ask("GET", "/api/v1/segments", headers=sent).problem == "session", "another token of that name"


def test_a_restart_ends_all_sessions(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with serving(tmp_path / "a") as first:
        _, sent = sign_in(first, first.viewer)
    with serving(tmp_path / "b") as second:
        name = f"streamguard-{second.server.address.port}"
        sent["Cookie"] = f"{name}={sent['Cookie'].partition('=')[2]}"
        assert second.ask("GET", PATH, headers=sent).problem == "session"


# Somebody else's page, whose requests carry the cookie although they should not.


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Sec-Fetch-Site": "cross-site"}),
        ("GET", {"Sec-Fetch-Site": "same-site"}),  # another port of this machine
        ("GET", {"Origin": "http://evil.example"}),
        ("DELETE", {"Sec-Fetch-Site": "none"}),
        ("DELETE", {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"}),
        ("DELETE", {"Origin": "http://evil.example"}),
        ("DELETE", {"Origin": "null"}),
        ("DELETE", {"Origin": "http://127.0.0.1:1"}),
        ("DELETE", {}),
    ],
)
def test_a_session_is_of_no_use_to_other_pages(served, method, headers):
    _, sent = sign_in(served, served.operator)
    host = str(served.server.address)
    forged = {name: value.format(host=host) for name, value in headers.items()}
    answer = served.ask(method, "/api/v1/streams/a", headers={"Cookie": sent["Cookie"]} | forged)
    assert (answer.status, answer.problem) == (403, "cross-site")
    assert served.refusals("cross-site") == 1
    assert served.ask("GET", PATH, headers=sent).status == 200, "and it still is"


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://{host}"}])
def test_its_own_page_may_change_things(served, headers):
    _, sent = sign_in(served, served.operator)
    own = {name: value.format(host=served.server.address) for name, value in headers.items()}
    answer = served.ask("DELETE", "/api/v1/streams/a", headers={"Cookie": sent["Cookie"]} | own)
    assert answer.problem == "not-ready"


def test_a_token_beside_the_cookie_is_what_counts(served):
    _, sent = sign_in(served, served.viewer)
    sent["Sec-Fetch-Site"] = "cross-site"
    assert served.ask("GET", PATH, served.operator, headers=sent).json["name"] == "otto"
