"""A certificate authority of one's own, for signing evidence on a machine that no public authority knows.

Keys are ECDSA on P-256 (ES256); certificates follow the profile of C2PA 2.4, 14.5: version 3, digital signature as
the signer's one use, a purpose (e-mail protection, which every validator takes), both key identifiers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from streamguard.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

FILES: Final = ("authority.pem", "authority.key", "signer.pem", "signer.key")
_AUTHORITY_DAYS: Final = 3650
_SIGNER_DAYS: Final = 730


class Pair(NamedTuple):
    """A certificate and its private key."""

    certificate: Certificate
    key: EllipticCurvePrivateKey


def generate(folder: Path, name: str, organisation: str) -> list[Path]:
    """Make an authority and a signer called ``name``, and write them into ``folder``; what was written.

    ``signer.pem`` holds the signer's certificate and the authority's. Keys can be read by their owner alone.

    Raises:
        UsageError: one of the files is there already, the folder can't be written to, or the extra is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization as pem
    except ImportError as error:
        raise UsageError("Keys need cryptography: pip install 'streamguard[evidence]'.") from error
    there = [file for file in FILES if (folder / file).exists()]
    if there:
        raise UsageError(
            f"'{folder}' holds {', '.join(there)} already; keys are never overwritten. Name another folder."
        )
    now = datetime.now(UTC)
    authority = _issue(f"{name} authority", organisation, now)
    signer = _issue(name, organisation, now, authority)
    certificates = [pair.certificate.public_bytes(pem.Encoding.PEM) for pair in (authority, signer)]
    keys = [
        pair.key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        for pair in (authority, signer)
    ]
    contents = (certificates[0], keys[0], certificates[1] + certificates[0], keys[1])
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file, content in zip(FILES, contents, strict=True):
            _write(folder / file, content, 0o600 if file.endswith(".key") else 0o644)
    except OSError as error:
        raise UsageError(f"'{folder}' can't be written to: {error.strerror}. Name another folder.") from error
    return [folder / file for file in FILES]


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file, which nobody else could ever read if ``mode`` says so."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(content)


def _issue(name: str, organisation: str, now: datetime, authority: Pair | None = None) -> Pair:
    """A new key with a certificate: the authority's own, or one that ``authority`` signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    own = authority is None
    issuer_key = key if authority is None else authority.key
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    names.insert(0, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organisation))
    subject = x509.Name(names)
    usage = x509.KeyUsage(
        digital_signature=not own,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=own,
        crl_sign=own,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if authority is None else authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=_AUTHORITY_DAYS if own else _SIGNER_DAYS))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not own:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return Pair(builder.sign(issuer_key, hashes.SHA256()), key)
