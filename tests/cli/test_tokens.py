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
