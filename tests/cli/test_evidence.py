"""`streamguard evidence`: keys, and what is said of signed, changed and unsigned files."""

from __future__ import annotations

import json

import pytest

from streamguard.delivery.credentials import SignSettings
from tests.exhibits import Kept
from tests.media import patterns, write_video

pytest.importorskip("c2pa")


@pytest.fixture
def signed(streamguard, tmp_path):
    """A folder of signed evidence, with the keys beside it."""
    assert streamguard("evidence", "keygen", "keys", "--name", "node 1", "--organisation", "A newsroom").exit_code == 0
    keys = tmp_path / "keys"
    film = write_video(tmp_path / "a.mp4", patterns(150), gop=25)
    with Kept(tmp_path / "kept", sign=SignSettings(str(keys / "signer.pem"), str(keys / "signer.key"))) as kept:
        kept.show(film)
    return tmp_path / "kept" / "door" / "run.segment-2"


def test_keys_are_made_once(streamguard, tmp_path):
    result = streamguard("evidence", "keygen", "keys")
    assert result.exit_code == 0
    assert "keys/signer.key" in result.stdout
    assert (tmp_path / "keys" / "signer.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "keys" / "signer.key").read_bytes()
    result = streamguard("evidence", "keygen", "keys")
    assert result.exit_code == 2
    assert "never overwritten" in result.stderr
    assert (tmp_path / "keys" / "signer.key").read_bytes() == before


def test_a_signed_file(streamguard, signed):
    result = streamguard("evidence", "verify", signed / "clip.mp4", "--trust", "keys/authority.pem")
    assert result.exit_code == 0
    assert "trusted" in result.stdout
    assert "signer: node 1 (A newsroom)" in result.stdout
    assert "digital source type: http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture" in result.stdout
    assert "StreamGuard said: flagged" in result.stdout


def test_trust_is_asked_for_or_not(streamguard, signed):
    result = streamguard("evidence", "verify", signed / "clip.mp4")
    assert (result.exit_code, "untrusted" in result.stdout) == (0, True)
    streamguard("evidence", "keygen", "others")
    result = streamguard("evidence", "verify", signed / "clip.mp4", "--trust", "others/authority.pem")
    assert (result.exit_code, "untrusted" in result.stdout) == (1, True)


def test_a_changed_byte(streamguard, signed):
    content = bytearray((signed / "clip.mp4").read_bytes())
    content[-1000] ^= 1
    (signed / "clip.mp4").write_bytes(content)
    result = streamguard("evidence", "verify", signed / "clip.mp4", "--trust", "keys/authority.pem")
    assert result.exit_code == 1
    assert "tampered: changed after it was signed" in result.stdout


def test_no_credentials_mean_nothing(streamguard, tmp_path):
    write_video(tmp_path / "plain.mp4", patterns(5))
    result = streamguard("evidence", "verify", "plain.mp4")
    assert result.exit_code == 1
    assert "absent: no content credentials. That means nothing" in result.stdout


def test_as_json(streamguard, signed):
    result = streamguard("evidence", "verify", signed / "clip.mp4", "--json")
    line = json.loads(result.stdout)
    assert (line["standing"], line["signer"], line["verdict"]["state"]) == ("untrusted", "node 1", "flagged")


def test_a_folder_is_verified_as_a_whole(streamguard, signed):
    result = streamguard("evidence", "verify", signed, "--trust", "keys/authority.pem")
    assert result.exit_code == 0
    assert "4 files are what the manifest states" in result.stdout
    assert result.stdout.count("trusted") >= 2


def test_a_manifest_made_to_fit_is_found_by_the_still(streamguard, signed):
    from tests.test_replay import change

    change(signed, lambda document: document["segment"].update(state="clear"))
    result = streamguard("evidence", "verify", signed, "--trust", "keys/authority.pem")
    assert result.exit_code == 1
    assert "'scores.json' is not the file that was signed for in still.jpg" in result.stderr


def test_files_that_are_none(streamguard, tmp_path):
    result = streamguard("evidence", "verify", "nothing.mp4")
    assert (result.exit_code, "does not exist" in result.stderr) == (1, True)
    (tmp_path / "text.txt").write_text("hello")
    result = streamguard("evidence", "verify", "text.txt")
    assert (result.exit_code, "carries no C2PA credentials" in result.stderr) == (1, True)
    result = streamguard("evidence", "verify", "text.txt", "--trust", "nothing.pem")
    assert result.exit_code == 2
