"""Signing in over TLS; the rest of the story is in test_sessions.py."""

import ssl

import pytest
import trustme

from streamguard.access import TlsSettings
from tests.serving import serving


@pytest.fixture
def tls(tmp_path):
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    with (tmp_path / "certificate.pem").open("wb") as out:
        for part in own.cert_chain_pems:
            out.write(part.bytes())
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return TlsSettings(str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")), trust


def test_with_tls_the_cookie_is_bound_to_this_host_and_to_tls(tmp_path, tls):
    settings, trust = tls
    with serving(tmp_path, trust=trust, tls=settings) as served:
        cookie = served.ask("POST", "/api/v1/session", served.viewer).headers["Set-Cookie"]
        name, _, rest = cookie.partition("=")
        assert name == f"__Host-streamguard-{served.server.address.port}"
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(rest.split("; "))
        assert "Domain" not in rest
        sent = {"Cookie": f"{name}={rest.partition(';')[0]}", "Sec-Fetch-Site": "same-origin"}
        assert served.ask("GET", "/api/v1/session", headers=sent).json["name"] == "anna"


def test_who_comes_with_a_token_has_no_end(tmp_path):
    with serving(tmp_path) as served:
        who = served.ask("GET", "/api/v1/session", served.operator).json
    assert who == {"name": "otto", "role": "operator", "expires_at": None}
