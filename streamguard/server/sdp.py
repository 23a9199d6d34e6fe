"""Session descriptions as peers send them (RFC 8866), as far as they have to be judged before a connection is made.

Pure text. What is not a description is a 400; one that asks for what is not served is a 422 that says what is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamguard.access import BitrateSettings
from streamguard.server.problems import Problem

_MEDIA: Final = re.compile(r"m=(audio|video|application) \d{1,5} [A-Z/]+ \S.*")
_CODEC: Final = re.compile(r"rtpmap:(\d{1,3}) (VP8|H264)/90000", re.IGNORECASE)
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_MOST_SECTIONS: Final = 4
_MOST_CANDIDATES: Final = 40
"""Of one peer: each is an address that this machine is going to knock at."""


@dataclass(frozen=True, slots=True)
class Section:
    """One medium: ``kind`` is audio, video or application; ``attributes`` without their ``a=``."""

    kind: str
    attributes: tuple[str, ...]

    def values(self, name: str) -> list[str]:
        """What stands behind ``a=<name>:``."""
        return [attribute[len(name) + 1 :] for attribute in self.attributes if attribute.startswith(f"{name}:")]

    @property
    def direction(self) -> str:
        """Which way media go, as the sender of the description sees it."""
        return next((attribute for attribute in self.attributes if attribute in _DIRECTIONS), "sendrecv")

    @property
    def codecs(self) -> frozenset[str]:
        """Those of VP8 and H264 that are named."""
        found = (_CODEC.fullmatch(attribute) for attribute in self.attributes)
        return frozenset(match[2].upper() for match in found if match)


@dataclass(frozen=True, slots=True)
class Offer:
    """A description that may be answered. ``ufrag`` and ``pwd``: its ICE credentials; ``mids``: of its sections."""

    text: str
    sections: tuple[Section, ...]
    ufrag: str
    pwd: str

    def one(self, kind: str) -> Section | None:
        """The only section of that kind, if there is one."""
        return next((section for section in self.sections if section.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a PATCH brings (RFC 8840): further candidates, ``ended`` after the last."""

    ufrag: str | None
    pwd: str | None
    mid: str | None
    candidates: tuple[str, ...]
    ended: bool


def read_offer(raw: bytes) -> Offer:
    """The offer in a body.

    Raises:
        Problem: it is none, or has more of anything than a peer needs.
    """
    lines = _lines(raw)
    if not lines or lines[0] != "v=0":
        raise _malformed("it has to begin with v=0")
    head, groups = _grouped(lines)
    if not groups:
        raise _malformed("it has no media")
    if len(groups) > _MOST_SECTIONS:
        raise _malformed(f"it has {len(groups)} media; {_MOST_SECTIONS} are taken at most")
    if sum(line.startswith("a=candidate:") for line in lines) > _MOST_CANDIDATES * len(groups):
        raise _malformed(f"it has more than {_MOST_CANDIDATES} candidates")
    sections = tuple(_section(head, group) for group in groups)
    for section in sections:
        for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "mid"):
            if not section.values(name):
                raise _malformed(f"a={name} is missing from its {section.kind}")
        if section.kind != "application" and "rtcp-mux" not in section.attributes:
            raise _malformed(f"a=rtcp-mux is missing from its {section.kind}")
    first = sections[0]
    return Offer("\r\n".join(lines) + "\r\n", sections, first.values("ice-ufrag")[0], first.values("ice-pwd")[0])


def check_sender(offer: Offer) -> None:
    """Whether a stream can be taken that way: one video, sent, in one quality.

    Raises:
        Problem: it can't.
    """
    video = _only_video(offer, frozenset({"VP8", "H264"}))
    if video.direction not in ("sendonly", "sendrecv"):
        raise Problem(422, "direction", f"the video is {video.direction}; expected sendonly")
    layers = [rid for rid in video.values("rid") if " send" in rid]
    if video.values("simulcast") or len(layers) > 1 or any(g.startswith("SIM") for g in video.values("ssrc-group")):
        raise Problem(422, "simulcast", "the video is offered in several qualities; send one, the best")


def check_viewer(offer: Offer) -> None:
    """Whether a picture can be sent that way: one video, received, as H.264.

    Raises:
        Problem: it can't.
    """
    video = _only_video(offer, frozenset({"H264"}))
    if video.direction not in ("recvonly", "sendrecv"):
        raise Problem(422, "direction", f"the video is {video.direction}; expected recvonly")


def _only_video(offer: Offer, codecs: frozenset[str]) -> Section:
    for kind in ("video", "audio", "application"):
        count = sum(section.kind == kind for section in offer.sections)
        if count > 1:
            raise Problem(422, "too-many-media", f"{count} {kind} sections are offered; expected one")
    video = offer.one("video")
    if video is None:
        raise Problem(422, "no-video", "no video is offered")
    if not video.codecs & codecs:
        raise no_common_codec(codecs)
    return video


def no_common_codec(codecs: frozenset[str] = frozenset({"VP8", "H264"})) -> Problem:
    """None of the codecs offered is served."""
    served = " or ".join(sorted(codecs))
    return Problem(422, "no-common-codec", f"no codec is offered that is served here: {served} (baseline, mode 1)")


def with_bitrates(answer: str, bitrate: BitrateSettings) -> str:
    """The answer, with the bit rates that a browser obeys: without them it starts small, and takes a minute to grow.

    Chromium's own parameters of a format (``x-google-...``, kbit/s); others ignore them.
    """
    wanted = (
        f"x-google-min-bitrate={bitrate.least};x-google-start-bitrate={bitrate.start};"
        f"x-google-max-bitrate={bitrate.most}"
    )
    lines = answer.replace("\r\n", "\n").rstrip("\n").split("\n")
    formats = {match[1] for line in lines if (match := _CODEC.fullmatch(line.removeprefix("a=")))}
    told = {line[len("a=fmtp:") :].partition(" ")[0] for line in lines if line.startswith("a=fmtp:")}
    changed: list[str] = []
    for line in lines:
        number = line.partition(":")[2].partition(" ")[0]
        if line.startswith("a=fmtp:") and number in formats:
            line = f"{line};{wanted}"
        changed.append(line)
        if line.startswith("a=rtpmap:") and number in formats - told:
            changed.append(f"a=fmtp:{number} {wanted}")
    return "\r\n".join(changed) + "\r\n"


def read_fragment(raw: bytes) -> Fragment:
    """The fragment in the body of a PATCH.

    Raises:
        Problem: it is none.
    """
    lines = _lines(raw)
    strange = [line for line in lines if not line.startswith(("a=", "m="))]
    if strange or not lines:
        raise _malformed("expected lines of a= and m= alone")
    section = Section("", tuple(line[2:] for line in lines if line.startswith("a=")))
    candidates = tuple(section.values("candidate"))
    if len(candidates) > _MOST_CANDIDATES:
        raise _malformed(f"it has more than {_MOST_CANDIDATES} candidates")
    ufrag, pwd, mid = (next(iter(section.values(name)), None) for name in ("ice-ufrag", "ice-pwd", "mid"))
    return Fragment(ufrag, pwd, mid, candidates, "end-of-candidates" in section.attributes)


def _lines(raw: bytes) -> list[str]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("it is no text") from None
    return text.replace("\r\n", "\n").rstrip("\n").split("\n") if text.strip() else []


def _grouped(lines: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The lines of the session, and those of each medium."""
    head: list[str] = []
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            if not _MEDIA.fullmatch(line):
                raise _malformed("a line m= is not one of audio, video or application")
            groups.append([line])
        else:
            (groups[-1] if groups else head).append(line)
    return head, groups


def _section(head: Sequence[str], group: Sequence[str]) -> Section:
    """A medium with what the session says for all of them."""
    inherited = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:")
    lines = [line for line in head if line.startswith(inherited)]
    attributes = [line[2:] for line in (*group[1:], *lines) if line.startswith("a=")]
    return Section(group[0][2:].partition(" ")[0], tuple(attributes))


def _malformed(why: str) -> Problem:
    return Problem(400, "sdp", f"the body is no session description: {why}")
