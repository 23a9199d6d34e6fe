"""Who may come in: bearer tokens (RFC 6750) with a role, kept as scrypt hashes (RFC 7914).

A token is ``sg_<id>_<secret>``: the id finds its line in the file, the secret is 256 random bits, shown once. The file
is JSON, mode 0600, and is read again when it has changed: a token that was removed is refused from then on. One that
expires is refused after its time, and stays in the file until it is removed.

What is right is remembered as a SHA-256 for as long as the file stays as it is, so that scrypt, slow on purpose, runs
once a token. What is wrong costs its client one of a few failures (:class:`~streamguard.server.limits.Buckets`).
"""

from __future__ import annotations

import asyncio
import base64
import enum
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from streamguard.errors import UsageError

_N, _R, _P = 2**14, 8, 1  # 16 MiB and some tens of milliseconds a guess (RFC 7914, 2)
_MAXMEM: Final = 64 * 2**20
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_TOKEN: Final = re.compile(r"sg_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_MOST: Final = 1000
_WAITING: Final = 8  # tokens that may wait to be checked; more are asked to come again


class Role(enum.StrEnum):
    """What a token is good for: a viewer reads and watches, an operator changes too, a sender sends a stream by WHIP
    and hears of that stream alone."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token: who it is for, and what its secret hashes to (``salt``, ``hash`` in base 64).

    ``created``, ``expires``: RFC 3339, UTC; None: it does not expire.
    """

    id: str
    name: str
    role: Role
    salt: str
    hash: str
    created: str
    expires: str | None = None

    def expired(self, now: float) -> bool:
        """Whether its time is over at Unix time ``now``."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires).timestamp()


class Busy(Exception):
    """So many tokens are being checked that this one has to come again."""


class TokenFile:
    """The file of tokens. Reading and writing it block; :meth:`check` does not."""

    def __init__(self, path: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}
        self._right: dict[str, bytes] = {}  # id: SHA-256 of a token that scrypt has found right
        self._turn = asyncio.Lock()
        self._waiting = 0

    def tokens(self) -> Sequence[Token]:
        """All tokens, as the file has them now; none if there is no file.

        Raises:
            UsageError: the file can't be read, or is none of this kind.
        """
        self._read()
        return list(self._tokens.values())

    def add(self, name: str, role: Role, hours: float | None = None) -> str:
        """Make a token and keep its hash. Returns the token, which nothing can show again. It is good for ``hours``.

        Raises:
            UsageError: the name is taken or unfit, or the file can't be read or written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"token name '{name}': expected 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front.")
        known = self.tokens()
        if any(token.name == name for token in known):
            raise UsageError(f"'{self._path}' has a token '{name}' already. Remove it first, or choose another name.")
        if len(known) >= _MOST:
            raise UsageError(f"'{self._path}' has {_MOST} tokens, the most it may. Remove one.")
        text = f"sg_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        salt = secrets.token_bytes(16)
        made = Token(
            id=text.split("_")[1],
            name=name,
            role=role,
            salt=base64.b64encode(salt).decode(),
            hash=base64.b64encode(_scrypt(text, salt)).decode(),
            created=_rfc3339(self._clock()),
            expires=None if hours is None else _rfc3339(self._clock() + 3600 * hours),
        )
        self._write([*known, made])
        return text

    def remove(self, name: str) -> None:
        """Forget a token.

        Raises:
            UsageError: there is none of that name, or the file can't be read or written.
        """
        known = self.tokens()
        left = [token for token in known if token.name != name]
        if len(left) == len(known):
            raise UsageError(f"'{self._path}' has no token '{name}'. `streamguard tokens list` shows its names.")
        self._write(left)

    def stands(self, token: Token) -> bool:
        """Whether a token that was right still is: neither removed nor expired.

        Raises:
            UsageError: the file has become unreadable.
        """
        self._read()
        return self._tokens.get(token.id) == token and not self.expired(token)

    def expired(self, token: Token) -> bool:
        """Whether the time of a token is over."""
        return token.expired(self._clock())

    async def check(self, text: str) -> Token | None:
        """The token that ``text`` is, or None. Slow the first time, in a thread, one after the other.

        Raises:
            Busy: too many wait already. UsageError: the file has become unreadable.
        """
        self._read()
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        found = self._tokens.get(match[1])
        digest = hashlib.sha256(text.encode()).digest()
        if found is not None and hmac.compare_digest(self._right.get(found.id, b""), digest):
            return found
        if self._waiting >= _WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(_matches, text, found)
        finally:
            self._waiting -= 1
        if not right or found is None or self._tokens.get(found.id) is not found:
            return None
        self._right[found.id] = digest
        return found

    def _read(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            data = json.loads(self._path.read_text(encoding="utf-8"))
            tokens = [_token(entry) for entry in data["tokens"]]
        except FileNotFoundError:
            stamp, tokens = None, []
        except OSError as error:
            raise UsageError(f"tokens '{self._path}' can't be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"'{self._path}' is no file of `streamguard tokens`. Name another, or remove it."
            ) from error
        self._stamp, self._tokens, self._right = stamp, {token.id: token for token in tokens}, {}

    def _write(self, tokens: Sequence[Token]) -> None:
        text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1) + "\n"
        try:
            # mkstemp makes it readable by its owner alone, before anything is in it.
            descriptor, made = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(made).replace(self._path)
        except OSError as error:
            raise UsageError(f"tokens '{self._path}' can't be written: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and nobody else.

    >>> is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("studio-1")
    (True, True, False, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _token(entry: Any) -> Token:
    fields = {key: str(entry[key]) for key in ("id", "name", "salt", "hash", "created")}
    base64.b64decode(fields["salt"], validate=True)
    base64.b64decode(fields["hash"], validate=True)
    expires = entry.get("expires")
    if expires is not None:
        datetime.fromisoformat(expires)
    return Token(role=Role(entry["role"]), expires=expires, **fields)


def _rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _matches(text: str, token: Token | None) -> bool:
    """Whether ``text`` is ``token``. Without one the same work is done: the time tells nothing of the ids."""
    salt = base64.b64decode(token.salt) if token else bytes(16)
    kept = base64.b64decode(token.hash) if token else bytes(32)
    return hmac.compare_digest(_scrypt(text, salt), kept) and token is not None


def _scrypt(text: str, salt: bytes) -> bytes:
    return hashlib.scrypt(text.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MAXMEM, dklen=32)
