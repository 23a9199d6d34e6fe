"""The page's own files over real sockets: open, unchanged until they change, and nothing beside them."""

from html.parser import HTMLParser

import pytest

from streamguard.server.assets import POLICY, read_assets
from tests.serving import serving


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path) as running:
        yield running


class Referred(HTMLParser):
    """Every address that a document names, and whatever a content security policy would refuse."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.refused, self._within = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._within = tag
        for name, value in attributes:
            if name in ("src", "href"):
                self.addresses.append(value)
            if name == "style" or name.startswith("on"):
                self.refused.append(name)

    def handle_data(self, data):
        if self._within in ("script", "style") and data.strip():
            self.refused.append(data)


def test_the_page_is_open_and_what_it_names_is_there(served):
    page = served.ask("GET", "/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    found = Referred(page.body.decode())
    assert found.refused == []
    assert len(found.addresses) >= 3
    for address in found.addresses:
        if address.startswith("#"):
            continue
        assert address.startswith("/page/"), "nothing of other hosts"
        assert served.ask("GET", address).status == 200


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_each_file_carries_the_policy(served, path):
    answer = served.ask("GET", path)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_file_is_sent_again_only_if_it_changed(served):
    first = served.ask("GET", "/page/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = served.ask("GET", "/page/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert served.ask("GET", "/page/main.js", headers={"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize("name", ["index.html", "", "x.js", "..%2fauth.py", "%2e%2e/%2e%2e/auth.py", "main.js%00"])
def test_nothing_else_is_there(served, name):
    assert served.ask("GET", f"/page/{name}").status in (400, 404)


def test_every_file_has_a_licence_to_be_there():
    """Nothing that the page does not use, and no module that imports from elsewhere."""
    assets = read_assets()
    texts = {name: asset.content.decode() for name, asset in assets.items()}
    for name in assets:
        assert name == "index.html" or any(name in text for other, text in texts.items() if other != name), name
    for text in texts.values():
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
