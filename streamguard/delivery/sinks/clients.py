"""What sinks with a network client share: whether the client is there, its TLS, how long it may take."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final
from urllib.parse import SplitResult, urlsplit

from streamguard.delivery.sinks import SinkError
from streamguard.errors import UsageError

GOODBYE: Final = 2.0
"""Seconds that a far side has to take leave in; then the connection is dropped."""


def require(module: str, extra: str, sink: str) -> None:
    """Refuse a sink whose client library is not installed.

    >>> require("json", "mqtt", "hall")

    Raises:
        UsageError: with the command that installs it.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"sink '{sink}' needs the library {module}, which is not installed: pip install 'streamguard[{extra}]'"
        )


def tls_context(sink: str, ca: str | None) -> ssl.SSLContext:
    """TLS with the certificate and the name of the far side verified: against ``ca`` (PEM), else against the
    system's authorities.

    Raises:
        UsageError: ``ca`` is no certificate.
    """
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"sink '{sink}': ca_file holds no certificate. Name a PEM file.") from error


def authority_needs_tls(ca_file: str | None, *, tls: bool) -> None:
    """Refuse an authority that nothing would be verified against.

    Raises:
        ValueError: ``ca_file`` without ``tls``.
    """
    if ca_file is not None and not tls:
        raise ValueError("ca_file has no use without tls: true")


def password_needs_user(sink: str, user: str | None, secrets: Mapping[str, str]) -> None:
    """Refuse a password that nobody would be logged in with.

    Raises:
        UsageError: a password in ``secrets`` without ``user``.
    """
    if "password" in secrets and user is None:
        raise UsageError(f"sink '{sink}': there is a password, and no user. Set user.")


def address(url: str, *schemes: str) -> SplitResult:
    """The parts of a URL without a secret in it. The URL itself never stands in the error.

    >>> address("redis://cache:6379/0", "redis", "rediss").hostname
    'cache'

    Raises:
        ValueError: another scheme, no host, no valid port, or credentials.
    """
    expected = "expected " + ", or ".join(f"{scheme}://HOST" for scheme in schemes)
    try:
        parts = urlsplit(url)
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(f"the address can't be used: {expected}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "the address holds a user or a password; give them with user, and password_file or password_env"
        )
    return parts


def positive(**settings: float) -> None:
    """Refuse a setting that is not above 0.

    Raises:
        ValueError: with its name and value.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name} is {value:g}; expected more than 0")


@asynccontextmanager
async def within(seconds: float, said: str) -> AsyncIterator[None]:
    """Give the block so many seconds.

    Raises:
        SinkError: they were not enough; ``said`` names the sink and its far side.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise SinkError(f"{said} gave no answer for {seconds:g} s.") from error


def reason(error: BaseException) -> str:
    """What a client library says, as the end of a sentence."""
    return str(error).strip().rstrip(".") or type(error).__name__


def hush(library: str) -> None:
    """Leave the telling to the dispatcher, which says once what a client library says at every try."""
    logging.getLogger(library).setLevel(logging.CRITICAL)
