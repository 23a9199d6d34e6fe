"""tokens: made, shown once, listed without their secret, removed."""

import json

import pytest


def test_a_token_is_printed_once(streamguard, tmp_path):
    made = streamguard("tokens", "add", "anna", "--role", "operator", "--file", "tokens.json")
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert token.startswith("sg_")
    listed = streamguard("tokens", "list", "--file", "tokens.json")
    assert "anna" in listed.stdout
    assert "operator" in listed.stdout
    secret = token.split("_", 2)[2]
    assert secret not in listed.stdout + (tmp_path / "tokens.json").read_text()


def test_the_configuration_names_the_file(streamguard, tmp_path):
    (tmp_path / "streamguard.yaml").write_text("api: {tokens: t.json}\n")
    for arguments in (("add", "anna"), ("add", "otto"), ("remove", "anna")):
        assert streamguard("tokens", *arguments, "--config", "streamguard.yaml").exit_code == 0
    kept = json.loads((tmp_path / "t.json").read_text())["tokens"]
    assert [(token["name"], token["role"]) for token in kept] == [("otto", "viewer")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "anna"), "Which tokens?"),
        (("remove", "anna", "--file", "t.json"), "has no token 'anna'"),
        (("add", "a b", "--file", "t.json"), "token name 'a b': expected 1 to 64"),
        (("add", "a", "--role", "king", "--file", "t.json"), "king"),
    ],
)
def test_wrong_use(streamguard, arguments, message):
    result = streamguard("tokens", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_token_may_expire(streamguard, tmp_path):
    assert streamguard("tokens", "add", "laptop", "--role", "sender", "--hours", "2", "--file", "t.json").exit_code == 0
    assert streamguard("tokens", "add", "desk", "--role", "sender", "--file", "t.json").exit_code == 0
    laptop, desk = json.loads((tmp_path / "t.json").read_text())["tokens"]
    assert laptop["expires"] > laptop["created"]
    assert desk["expires"] is None
    listed = streamguard("tokens", "list", "--file", "t.json").stdout
    assert laptop["expires"] in listed
    assert "never" in listed
    assert streamguard("tokens", "add", "x", "--hours", "0", "--file", "t.json").exit_code == 2
