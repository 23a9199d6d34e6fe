"""Keys of an earlier release: read as what they are called now, or named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamguard import config
from streamguard.config import config_schema, load_config
from streamguard.errors import ConfigError
from streamguard.renames import RENAMES, Rename, _parts, brought_up
from streamguard.yaml_file import Origins

TABLE = (
    Rename("sampling.every", "sampling.detect_every", "0.2.0"),
    Rename("streams[].address", "streams[].uri", "0.2.0"),
    Rename("retry", "tracking", "0.2.0"),
    Rename("quality.limits.size", "quality.size", "0.2.0"),
    Rename("alarm.bell", None, "0.2.0", "Let a webhook ring it: docs/sinks.md."),
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said, with another table in the place of ours."""
    monkeypatch.setattr(config, "RENAMES", TABLE)
    return []


def loaded(folder: Path, text: str, said: list[str], environ: dict[str, str] | None = None) -> config.Config:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        return load_config(file, environ or {}, said.append)
    finally:
        said[:] = [line.replace(f"{folder}/", "") for line in said]


def test_a_renamed_key_is_read(tmp_path: Path, said: list[str]) -> None:
    found = loaded(tmp_path, "node: a\nsampling:\n  every: 7\n", said)
    assert found.sampling.detect_every == 7
    assert said == ["c.yaml:3: 'sampling.every' is 'sampling.detect_every' since 0.2.0; it is read as that. Rename it."]


def test_in_every_item_of_a_list(tmp_path: Path, said: list[str]) -> None:
    text = "streams:\n  - {name: a, address: '${A}'}\n  - {name: b, uri: y}\n  - name: c\n    address: z\n"
    found = loaded(tmp_path, text, said, {"A": "x"})
    assert [stream.uri for stream in found.streams] == ["x", "y", "z"]
    assert [line.partition(" is ")[0] for line in said] == [
        "c.yaml:2: 'streams[0].address'",
        "c.yaml:5: 'streams[2].address'",
    ]


def test_an_alias_is_two_places(tmp_path: Path, said: list[str]) -> None:
    text = "streams:\n  - &a {name: a, address: x}\n  - {<<: *a, name: b}\n"
    assert [stream.uri for stream in loaded(tmp_path, text, said).streams] == ["x", "x"]
    shared = {"address": "x", "name": "a"}
    found, lines = brought_up({"streams": [shared, shared]}, Origins("c.yaml"), TABLE)
    assert found == {"streams": [{"name": "a", "uri": "x"}] * 2}
    assert len(lines) == 2


def test_a_whole_part_of_the_file(tmp_path: Path, said: list[str]) -> None:
    assert loaded(tmp_path, "retry: {most: 9}\n", said).tracking.most == 9
    assert said == ["c.yaml:1: 'retry' is 'tracking' since 0.2.0; it is read as that. Rename it."]


def test_what_held_the_key_alone_goes_with_it(tmp_path: Path, said: list[str]) -> None:
    assert loaded(tmp_path, "quality: {limits: {size: 80.0}}\n", said).quality.size == 80.0
    with pytest.raises(ConfigError, match=r"'quality.limits' is not known"):
        loaded(tmp_path, "quality: {limits: {size: 80.0, other: 1}}\n", said)


def test_a_mistake_in_its_value_is_told_where_it_stands(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml:3: 'sampling\.detect_every' is \"often\""):
        loaded(tmp_path, "node: a\nsampling:\n  every: often\n", said)
    with pytest.raises(ConfigError, match=r"c\.yaml:2: 'tracking\.mots' is not known; did you mean 'most'"):
        loaded(tmp_path, "retry:\n  mots: 1\n", said)


def test_both_names_are_refused(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml:1: 'sampling\.every' is 'sampling\.detect_every' since 0\.2\.0"):
        loaded(tmp_path, "sampling: {every: 7, detect_every: 8}\n", said)


def test_what_is_gone_is_named_and_left_out(tmp_path: Path, said: list[str]) -> None:
    assert loaded(tmp_path, "node: a\nalarm: {bell: loud}\n", said).node == "a"
    assert said == [
        "c.yaml:2: 'alarm.bell' is gone since 0.2.0, and is not read. Let a webhook ring it: docs/sinks.md."
    ]


def test_other_types_are_left_to_the_checks(tmp_path: Path, said: list[str]) -> None:
    for text in ("streams: {address: x}\n", "sampling: 5\n", "streams: [5]\n"):
        with pytest.raises(ConfigError):
            loaded(tmp_path, text, said)
    assert said == []


def test_a_run_logs_it(tmp_path: Path, said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "c.yaml").write_text("sampling: {every: 7}\n")
    load_config(tmp_path / "c.yaml", {})
    assert "it is read as that. Rename it." in caplog.text


def test_the_table_of_this_release_leads_to_keys_that_there_are() -> None:
    schema = config_schema()
    for rename in RENAMES:
        assert rename.new or rename.instead
        here = schema
        for part in _parts(rename.new or ""):
            here = here["items"] if part == "[]" else here.get("properties", {}).get(part, {})
            here = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
            assert here, rename


def test_origins_know_the_new_place_and_what_is_in_it() -> None:
    origins = Origins("c.yaml", lines={("retry",): 4, ("retry", "most"): 5})
    data = {"retry": {"most": 9}}
    data, _ = brought_up(data, origins, TABLE)
    assert data == {"tracking": {"most": 9}}
    assert origins.of(("tracking", "most")) == "c.yaml:5"
