"""Content credentials: what we sign can be read and checked; a changed byte is found; foreign files are read too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import av
import numpy as np
import pytest

from streamguard.delivery import authority
from streamguard.delivery.authority import FILES, generate
from streamguard.delivery.credentials import Signer, SignSettings, Standing, read_credentials
from streamguard.errors import EvidenceError, EvidenceMissing, UsageError
from tests.exhibits import Kept, pictures
from tests.media import patterns, write_still, write_video

pytest.importorskip("c2pa")

CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    generate(folder, "node 1", "A newsroom")
    return folder


@pytest.fixture(scope="module")
def settings(keys):
    return SignSettings(str(keys / "signer.pem"), str(keys / "signer.key"))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", patterns(60), gop=10, audio=True)


@pytest.fixture(scope="module")
def signed(film, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("signed") / "clip.mp4"
    path.write_bytes(Signer(settings).sign("video/mp4", film.read_bytes(), "door", {"state": "flagged", "peak": 0.75}))
    return path


def test_keys_are_their_owners_alone(keys):
    assert [path.name for path in sorted(keys.iterdir())] == sorted(FILES)
    assert {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()} == {
        "authority.pem": 0o644,
        "authority.key": 0o600,
        "signer.pem": 0o644,
        "signer.key": 0o600,
    }


@pytest.mark.parametrize("there", FILES)
def test_keys_are_never_overwritten(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(UsageError, match=f"holds {there} already"):
        generate(tmp_path, "a", "b")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be written to"):
        generate(tmp_path / "file" / "keys", "a", "b")


def test_a_signed_clip_is_trusted_by_who_trusts_the_authority(signed, keys):
    credentials = read_credentials(signed, keys / "authority.pem")
    assert credentials.standing is Standing.TRUSTED
    assert (credentials.signer, credentials.issuer) == ("node 1", "A newsroom")
    assert credentials.source_types == (CAPTURE,)
    assert credentials.generator is not None
    assert credentials.generator.startswith("StreamGuard ")
    assert credentials.verdict == {"state": "flagged", "peak": 0.75}
    assert credentials.problems == ()


def test_others_see_that_it_is_whole_and_not_who_it_is(signed, tmp_path):
    assert read_credentials(signed).standing is Standing.UNTRUSTED
    generate(tmp_path, "somebody", "else")
    assert read_credentials(signed, tmp_path / "authority.pem").standing is Standing.UNTRUSTED


def test_signing_changes_no_picture(film, signed):
    before, after = pictures(film), pictures(signed)
    assert before == after
    with av.open(str(film)) as a, av.open(str(signed)) as b:
        assert [bytes(p) for p in a.demux(a.streams.audio[0])] == [bytes(p) for p in b.demux(b.streams.audio[0])]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_is_found(signed, keys, tmp_path, share):
    content = bytearray(signed.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin + int(share * (len(content) - begin))] ^= 1
    (tmp_path / "clip.mp4").write_bytes(content)
    assert read_credentials(tmp_path / "clip.mp4", keys / "authority.pem").standing is Standing.TAMPERED


def test_a_changed_claim_is_found(signed, keys, tmp_path):
    content = signed.read_bytes()
    assert content.count(b"digitalCapture") >= 1
    (tmp_path / "clip.mp4").write_bytes(content.replace(b"digitalCapture", b"digitalCapturf"))
    assert read_credentials(tmp_path / "clip.mp4", keys / "authority.pem").standing is Standing.TAMPERED


def test_a_still_is_signed_alike(settings, keys, tmp_path):
    path = write_still(tmp_path / "still.jpg", np.full((64, 64, 3), 90, np.uint8))
    path.write_bytes(Signer(settings).sign("image/jpeg", path.read_bytes(), "still", {"files": {"clip.mkv": "0"}}))
    credentials = read_credentials(path, keys / "authority.pem")
    assert credentials.standing is Standing.TRUSTED
    assert credentials.verdict == {"files": {"clip.mkv": "0"}}


def test_no_credentials_are_no_credentials(film):
    assert read_credentials(film).standing is Standing.ABSENT


def test_files_that_carry_none_are_named(tmp_path):
    film = write_video(tmp_path / "a.mkv", patterns(5))
    with pytest.raises(EvidenceError, match=r"a\.mkv' is of a format that carries no C2PA credentials"):
        read_credentials(film)
    with pytest.raises(EvidenceMissing, match="does not exist"):
        read_credentials(tmp_path / "nothing.mp4")


def test_a_foreign_file_says_what_made_it(settings, keys, tmp_path):
    """Signed by another tool: other claims, of a picture that a model made."""
    import c2pa

    path = write_still(tmp_path / "foreign.jpg", np.full((64, 64, 3), 90, np.uint8))
    made = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    claim = {
        "claim_generator_info": [{"name": "Painter", "version": "3"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": made}]}}
        ],
    }
    chain, key = (keys / "signer.pem").read_bytes(), (keys / "signer.key").read_bytes()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))
    with path.open("rb") as source, (tmp_path / "out.jpg").open("w+b") as out:
        c2pa.Builder(json.dumps(claim)).sign(signer, "image/jpeg", source, out)
    credentials = read_credentials(tmp_path / "out.jpg")
    assert credentials.generator == "Painter 3"
    assert credentials.source_types == (made,)
    assert credentials.verdict is None


def test_trust_anchors_that_are_none(signed, tmp_path):
    (tmp_path / "anchors.pem").write_text("hello")
    with pytest.raises(UsageError, match="holds no certificate"):
        read_credentials(signed, tmp_path / "anchors.pem")
    with pytest.raises(UsageError, match="can't be read"):
        read_credentials(signed, tmp_path / "absent.pem")


def test_a_key_of_another_certificate_is_refused(keys, tmp_path):
    generate(tmp_path, "a", "b")
    with pytest.raises(UsageError, match="is not the key of"):
        Signer(SignSettings(str(keys / "signer.pem"), str(tmp_path / "signer.key")))


def test_a_key_that_is_none_is_refused_without_quoting_it(keys, tmp_path):
    (tmp_path / "bad.key").write_text("-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="no certificate and unencrypted key") as error:
        Signer(SignSettings(str(keys / "signer.pem"), str(tmp_path / "bad.key")))
    assert "planted" not in str(error.value)
    with pytest.raises(UsageError, match=r"key_file: '.*absent\.key' can't be read"):
        Signer(SignSettings(str(keys / "signer.pem"), str(tmp_path / "absent.key")))


def test_a_certificate_that_has_run_out_is_refused(tmp_path, monkeypatch):
    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) - timedelta(days=5000)

    monkeypatch.setattr(authority, "datetime", Past)
    generate(tmp_path, "a", "b")
    with pytest.raises(UsageError, match="Renew it"):
        Signer(SignSettings(str(tmp_path / "signer.pem"), str(tmp_path / "signer.key")))


def test_evidence_is_signed(settings, keys, tmp_path):
    film = write_video(tmp_path / "a.mp4", patterns(150), gop=25)
    with Kept(tmp_path / "evidence", sign=settings) as kept:
        kept.show(film)
    folder = tmp_path / "evidence" / "door" / "run.segment-2"
    clip, still = (read_credentials(folder / name, keys / "authority.pem") for name in ("clip.mp4", "still.jpg"))
    assert (clip.standing, still.standing) == (Standing.TRUSTED, Standing.TRUSTED)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["signed_by"] == "node 1"
    assert still.verdict is not None
    assert still.verdict["files"] == {
        name: file["sha256"] for name, file in manifest["files"].items() if name != "still.jpg"
    }
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert {score["clip_pts"] for score in scores} <= set(pictures(folder / "clip.mp4"))


def test_what_can_not_be_signed_is_told_by_the_still(settings, keys, tmp_path):
    quick = {"cpu-used": "8", "deadline": "realtime"}
    film = write_video(tmp_path / "a.webm", patterns(150), codec="libvpx", encoder=quick)
    with Kept(tmp_path / "evidence", sign=settings) as kept:
        kept.show(film)
    folder = tmp_path / "evidence" / "door" / "run.segment-2"
    still = read_credentials(folder / "still.jpg", keys / "authority.pem")
    assert still.standing is Standing.TRUSTED
    assert still.verdict is not None
    assert "clip.mkv" in still.verdict["files"]
