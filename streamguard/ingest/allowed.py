"""Which sources may be opened on somebody else's word: nothing unless it is named (CWE-918, request forgery).

A name is resolved once, and the connection is made to the address that was judged: a name that answers with another
address the second time (DNS rebinding) gains nothing. :mod:`streamguard.ingest.egress` makes that connection, since
FFmpeg would resolve again, and follow redirects. What can't be held to an address (``rtsps``, ``rtmp``, ``udp``)
can't be allowed.
"""

from __future__ import annotations

import fnmatch
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from streamguard.errors import SourceRefused
from streamguard.ingest.network import public

SCHEMES: Final = ("demo", "file", "http", "https", "rtsp")
_PORTS: Final = {"http": 80, "https": 443, "rtsp": 554}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST: Final = re.compile(r"[A-Za-z0-9_.*-]+|[0-9A-Fa-f:.]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")  # what two parsers of an address may read in two ways
_NAT64: Final = IPv6Network("64:ff9b::/96")

Resolve = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class AllowedSources:
    """What may be added through the API: every part of a source must be named here.

    Attributes:
        schemes: of ``demo``, ``file``, ``http``, ``https``, ``rtsp``.
        hosts: names, ``*.example.net`` for all below one. Their addresses must be public, or lie in ``networks``.
        networks: CIDRs; an address in one of them is allowed by whatever name.
        folders: absolute; files below them, symbolic links resolved.
    """

    schemes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if scheme not in SCHEMES:
                raise ValueError(
                    f"scheme '{scheme}' can't be allowed; expected some of {', '.join(SCHEMES)}: no other can be held "
                    "to one address"
                )
        for host in self.hosts:
            if not _HOST.fullmatch(host) or "*" in host.removeprefix("*."):
                raise ValueError(f"host '{host}' is none; expected a name, or *. and a name")
        for network in self.networks:
            ip_network(network)  # says itself what is wrong
        for folder in self.folders:
            if not Path(folder).is_absolute():
                raise ValueError(f"folder '{folder}' is not absolute; expected one that begins with /")


class Target(NamedTuple):
    """Where a connection goes: the name asked for, and the one address that it stands for."""

    host: str
    port: int
    address: str


class SourceRules:
    """Judges sources. ``resolve`` gives the addresses of a name; it blocks, so call the methods off a loop."""

    def __init__(self, allowed: AllowedSources, resolve: Resolve | None = None) -> None:
        self._schemes = frozenset(allowed.schemes)
        self._hosts = tuple(host.lower() for host in allowed.hosts)
        self._networks = tuple(ip_network(network) for network in allowed.networks)
        self._folders = tuple(Path(folder) for folder in allowed.folders)
        self._resolve = resolve or addresses_of

    def scheme(self, uri: str) -> str:
        """The scheme of a URI, ``file`` for a path.

        Raises:
            SourceRefused: it is not allowed.
        """
        if _CONTROL.search(uri):
            raise SourceRefused("a source with a control character or a backslash in it is not taken.")
        match = _SCHEME.match(uri)
        scheme = match[1].lower() if match else "file"
        if scheme not in self._schemes:
            raise SourceRefused(
                f"'{public(uri)}': the scheme '{scheme}' is not allowed here. Name it in api.allow_sources.schemes."
            )
        return scheme

    def file(self, uri: str) -> Path:
        """The real path of a file below an allowed folder.

        Raises:
            SourceRefused: it lies elsewhere, by whatever way the path is written, or is no regular file.
        """
        try:
            parts = urlsplit(uri) if _SCHEME.match(uri) else None
        except ValueError:
            raise SourceRefused(f"'{public(uri)}' is no address of a file.") from None
        if parts is not None and parts.netloc not in ("", "localhost"):
            raise SourceRefused(f"'{public(uri)}' names a file on another machine.")
        named = unquote(parts.path) if parts is not None else uri
        if not named.startswith("/") or "\0" in named:
            raise SourceRefused(f"'{public(uri)}': expected the whole path of a file, which begins with /.")
        path = Path(os.path.realpath(named))
        # One answer for what lies elsewhere and for what is not there: the API is no way to look round in a disk.
        inside = any(path.is_relative_to(os.path.realpath(folder)) for folder in self._folders)
        if not inside or not path.is_file():
            raise SourceRefused(f"'{public(uri)}' is no file below a folder of api.allow_sources.folders.")
        return path

    def target(self, uri: str) -> Target:
        """Where a URI leads, resolved now.

        Raises:
            SourceRefused: its scheme, host or address is not allowed, or it has no host.
        """
        scheme = self.scheme(uri)
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname, parts.port or _PORTS[scheme]
        except (ValueError, KeyError):
            host, port = None, 0
        if not host or not _HOST.fullmatch(host) or "*" in host:
            raise SourceRefused(f"'{public(uri)}' names no host that could be checked.")
        return self.pin(host, port)

    def pin(self, host: str, port: int) -> Target:
        """The address that ``host`` stands for from now on.

        Raises:
            SourceRefused: it has none that is allowed.
        """
        named = self._named(host)
        for text in self._resolve(host):
            address = _plain(text)
            if address is not None and self._allowed(address, named):
                return Target(host, port, str(address))
        raise SourceRefused(
            f"host '{host}' is not allowed here, or has no allowed address. Name it in api.allow_sources.hosts if its "
            "address is public, else its network in api.allow_sources.networks."
        )

    def allows(self, scheme: str) -> bool:
        """Whether a scheme may be used."""
        return scheme in self._schemes

    def _named(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._hosts)

    def _allowed(self, address: IPv4Address | IPv6Address, named: bool) -> bool:
        if address.is_multicast or address.is_unspecified:
            return False
        listed = any(address in network for network in self._networks if network.version == address.version)
        return listed or (named and address.is_global)


def addresses_of(host: str) -> Sequence[str]:
    """The addresses of a name, as the system resolves it; none if it does not. Blocks."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _plain(text: str) -> IPv4Address | IPv6Address | None:
    """An address without its disguises: IPv4 in IPv6 (mapped, 6to4, NAT64) is judged as what it stands for."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
        return address.ipv4_mapped or address.sixtofour or address
    return address
