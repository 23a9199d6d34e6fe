"""Which sources may be named by somebody else: every disguise of an address that must not be reached."""

import pytest

from streamguard.errors import SourceRefused
from streamguard.ingest.allowed import SCHEMES, AllowedSources, SourceRules, addresses_of

PUBLIC = "93.184.216.34"
NAMES = {
    "cam.example.net": [PUBLIC],
    "six.example.net": ["2606:2800:220:1::1"],
    "inside.example.net": ["192.168.1.9"],
    "mixed.example.net": ["127.0.0.1", PUBLIC],
    "example.net": [PUBLIC],
    "elsewhere.test": [PUBLIC],
    "nowhere.example.net": [],
}


def resolve(host):
    return NAMES.get(host, [host])


def rules(**allowed):
    given = {"schemes": SCHEMES, "hosts": ("*.example.net", "2606:2800:220:1::1"), "networks": ("192.168.1.0/28",)}
    return SourceRules(AllowedSources(**(given | allowed)), resolve)


@pytest.mark.parametrize(
    ("uri", "address", "port"),
    [
        ("rtsp://cam.example.net/live", PUBLIC, 554),
        ("rtsp://bob:p@ss@cam.example.net:8554/live", PUBLIC, 8554),
        ("https://CAM.example.net./a.m3u8", PUBLIC, 443),
        ("http://six.example.net/", "2606:2800:220:1::1", 80),
        ("http://[2606:2800:220:1::1]:8080/", "2606:2800:220:1::1", 8080),
        ("rtsp://inside.example.net/", "192.168.1.9", 554),
        ("rtsp://192.168.1.9/", "192.168.1.9", 554),
        ("rtsp://[::ffff:192.168.1.9]/", "192.168.1.9", 554),
        ("rtsp://mixed.example.net/", PUBLIC, 554),
    ],
)
def test_allowed(uri, address, port):
    found = SourceRules(
        AllowedSources(schemes=SCHEMES, hosts=("*.example.net", "2606:2800:220:1::1"), networks=("192.168.1.0/28",)),
        lambda host: NAMES.get(host.lower().removesuffix("."), [host]),
    ).target(uri)
    assert (found.address, found.port) == (address, port)


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://elsewhere.test/",
        "rtsp://example.net/",
        "rtsp://cam.example.net.evil.test/",
        "rtsp://nowhere.example.net/",
        "rtsp://127.0.0.1/",
        "rtsp://0.0.0.0/",
        "rtsp://[::]/",
        "rtsp://[::1]/",
        "rtsp://[::ffff:127.0.0.1]/",
        "rtsp://[64:ff9b::7f00:1]/",
        "rtsp://[2002:7f00:1::]/",
        "rtsp://[fe80::1%25lo]/",
        "rtsp://169.254.169.254/latest/meta-data",
        "rtsp://192.168.1.16/",
        "rtsp://224.0.0.1/",
        "rtsp://93.184.216.34/",
        "rtsp://2130706433/",
        "rtsp://0x7f.1/",
        "rtsp:///live",
        "rtsp://cam.example.net:99999/",
        "rtsp://cam.example.net:x/",
        "rtsp://*.example.net/",
        "rtsp://cam.example.net\\@127.0.0.1/",
        "rtsp://cam.example.net\r\n/",
        "rtsp://cam.example.net\t@127.0.0.1/",
        "rtsp://cam.ex\x00ample.net/",
    ],
)
def test_refused(uri):
    with pytest.raises(SourceRefused):
        rules().target(uri)


@pytest.mark.parametrize(
    "answer",
    [
        "127.0.0.1",
        "2130706433",
        "garbage",
        "fe80::1%eth0",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_a_name_that_stands_for_what_must_not_be_reached(answer):
    judged = SourceRules(AllowedSources(schemes=("rtsp",), hosts=("cam.example.net",)), lambda host: [answer])
    with pytest.raises(SourceRefused, match=r"host 'cam\.example\.net' is not allowed here"):
        judged.target("rtsp://cam.example.net/")


def test_nothing_is_allowed_by_default():
    nothing = SourceRules(AllowedSources())
    for uri in ("demo:", "/etc/passwd", "file:///etc/passwd", "http://example.net/", "rtsp://cam/", "udp://0.0.0.0:1"):
        with pytest.raises(SourceRefused, match=r"is not allowed here\. Name it in api\.allow_sources\.schemes"):
            nothing.scheme(uri)


@pytest.mark.parametrize("uri", ["rtsps://a/", "rtmp://a/", "udp://a:1", "srt://a:1", "gopher://a", "concat:a", "fd:0"])
def test_what_can_not_be_held_to_an_address_is_never_allowed(uri):
    with pytest.raises(SourceRefused):
        rules().scheme(uri)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schemes": ("rtmp",)}, "scheme 'rtmp' can't be allowed"),
        ({"hosts": ("a*b.net",)}, r"host 'a\*b\.net' is none"),
        ({"hosts": ("http://a",)}, "is none"),
        ({"networks": ("10.0.0.1/8",)}, "has host bits set"),
        ({"folders": ("videos",)}, "folder 'videos' is not absolute"),
    ],
)
def test_settings_that_can_not_be_meant(wrong, message):
    with pytest.raises(ValueError, match=message):
        AllowedSources(**wrong)


# Files.


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a b.mp4").touch()
    (tmp_path / "videos-too").mkdir()
    (tmp_path / "videos-too" / "c.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "videos" / "good.mp4").symlink_to(tmp_path / "videos" / "a b.mp4")
    return tmp_path


def files(tree):
    return SourceRules(AllowedSources(schemes=("file",), folders=(str(tree / "videos"),)))


@pytest.mark.parametrize("form", ["{}/videos/a b.mp4", "file://{}/videos/a%20b.mp4", "{}/videos/../videos/good.mp4"])
def test_a_file_of_a_named_folder(tree, form):
    assert files(tree).file(form.format(tree)) == tree / "videos" / "a b.mp4"


@pytest.mark.parametrize(
    "form",
    [
        "{}/secret.mp4",
        "{}/videos/../secret.mp4",
        "file://{}/videos/%2e%2e/secret.mp4",
        "{}/videos/link.mp4",
        "{}/videos-too/c.mp4",
        "{}/videos",
        "{}/videos/absent.mp4",
        "videos/a b.mp4",
        "file:videos/a",
        "file://[::ffff:1.2.3]/a.mp4",
        "file://elsewhere{}/videos/a%20b.mp4",
        "file://{}/videos/a%00b.mp4",
        "/dev/video0",
        "/proc/self/environ",
    ],
)
def test_a_file_that_lies_elsewhere(tree, form):
    with pytest.raises(SourceRefused):
        files(tree).file(form.format(tree))


def test_one_answer_for_what_is_elsewhere_and_what_is_not_there(tree):
    told = []
    for path in (tree / "secret.mp4", tree / "absent.mp4"):
        with pytest.raises(SourceRefused) as refused:
            files(tree).file(str(path))
        told.append(str(refused.value).replace(str(path), ""))
    assert told[0] == told[1]


def test_the_system_resolves():
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("no.such.name.invalid") == ()
    assert addresses_of("a" * 300) == ()
