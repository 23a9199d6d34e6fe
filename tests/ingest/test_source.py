"""From URIs to sources."""

import pytest

from streamguard.errors import SourceRefused
from streamguard.ingest.container import FileSource
from streamguard.ingest.demo import DemoSource
from streamguard.ingest.source import open_source
from tests.media import patterns, write_video


@pytest.mark.parametrize("uri", ["clip.mp4", "/a/b/clip.mp4", "./we:ird/clip.mp4", "file:///a/b/clip.mp4"])
def test_paths_are_files(uri):
    source = open_source(uri)
    assert isinstance(source, FileSource)
    assert source.name == "clip.mp4"
    assert not source.live


def test_nothing_is_opened_before_open():
    assert open_source("/no/such/file.mp4").uri == "/no/such/file.mp4"


def test_a_file_uri_may_hold_escapes(tmp_path):
    write_video(tmp_path / "a b.mp4", patterns(2))
    with open_source(f"file://{tmp_path}/a%20b.mp4").open(1) as connection:
        assert len(list(connection)) == 2


def test_a_name_can_be_given():
    assert open_source("clip.mp4", name="door").name == "door"
    assert open_source("demo:", name="door").name == "door"


def test_demo_is_a_source():
    assert isinstance(open_source("demo:?seed=3"), DemoSource)


@pytest.mark.parametrize("uri", ["gopher://host/1", "ftp://bob:hun@ter2@host/a.mp4", "s3://bucket/a.mp4"])
def test_unknown_schemes_are_refused_by_name(uri):
    with pytest.raises(SourceRefused, match=uri.split(":")[0]) as refused:
        open_source(uri)
    assert "ter2" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_files_of_other_machines_are_refused():
    with pytest.raises(SourceRefused, match="another machine"):
        open_source("file://server/share/a.mp4")
