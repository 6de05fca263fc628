"""Issue certificates for development from an own CA (RFC 5280).

Keys are of the curve P-256. Only the owner of the CA's folder can read the CA's key.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from maxgate.errors import ConfigurationError

CA_LIFETIME: Final = timedelta(days=3650)
_CA_NAME: Final = "maxgate development CA"
_CLOCK_SKEW: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether this CA has signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, TypeError, ValueError):
            return False
        return True


def create_ca(folder: Path) -> Issuer:
    """Create a CA and write its `ca.crt` and `ca.key`; raises ConfigurationError."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _CA_NAME)])
    usage = _build_key_usage(is_ca=True)
    builder = _begin(name, name, key.public_key(), CA_LIFETIME)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    write_file(folder / "ca.key", encode_key(key), 0o600)
    write_file(folder / "ca.crt", certificate.public_bytes(Encoding.PEM), 0o644)
    return Issuer(certificate, key)


def load_ca(folder: Path) -> Issuer:
    """Load the CA of a folder.

    Raises ConfigurationError if a file is missing or damaged, if they do not belong together, or if
    the CA has expired.
    """
    way_out = f"remove {folder} to create a new CA, which every client then has to trust"
    certificate = read_certificate(folder / "ca.crt")
    try:
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{folder / 'ca.key'}: the key of the CA cannot be read ({error}); {way_out}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ConfigurationError(f"{folder}: ca.key is not the key of ca.crt; {way_out}")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise ConfigurationError(f"{folder / 'ca.crt'}: the CA has expired; {way_out}")
    return Issuer(certificate, key)


def issue(issuer: Issuer, hosts: Sequence[str], days: int) -> tuple[bytes, bytes]:
    """Issue a server certificate for names and addresses; returns it and its key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    left = issuer.certificate.not_valid_after_utc - datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    builder = _begin(
        subject, issuer.certificate.subject, key.public_key(), min(timedelta(days=days), left)
    )
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(_parse_hosts(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_build_key_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
        .sign(issuer.key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), encode_key(key)


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file; raises ConfigurationError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not a certificate in PEM") from error


def read_hosts(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses of a certificate."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def is_pair(certificate: Path, key: Path) -> bool:
    """Whether a file holds the key of a certificate."""
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return False
    return private.public_key() == read_certificate(certificate).public_key()


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Replace a file at once, and create its folder; raises ConfigurationError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Encode a private key in PEM, without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _build_key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _parse_hosts(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names
