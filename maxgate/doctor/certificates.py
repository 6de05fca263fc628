"""Check TLS certificates: those of servers, and the files of `maxgate certs dev`."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from maxgate.doctor.findings import Finding, Subject, count, error, ok, warning
from maxgate.telemetry.system import read_expiry

_DAY: Final = 86_400
_SOON: Final = 14 * _DAY
_CONNECT_TIMEOUT: Final = 5.0
# Codes of X509_verify_cert; see openssl/x509_vfy.h.
_EXPIRED: Final = 10
_HOST_MISMATCH: Final = frozenset({62, 64})
_RENEW: Final = "renew the certificate; for development: maxgate certs dev"


async def check_server(url: str, now: float, ca_file: Path | None = None) -> list[Finding]:
    """Check the certificate of an https:// server; empty if it is valid, or there is no server."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    context = ssl.create_default_context(cafile=ca_file)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as reason:
        return [_describe_fault(f"{host}:{port}", reason)]
    except (OSError, TimeoutError):
        return []  # the check of the server itself reports it
    certificate = writer.get_extra_info("peercert")
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return list(
        _check_end(f"{host}:{port}", ssl.cert_time_to_seconds(certificate["notAfter"]) - now)
    )


def _describe_fault(name: str, reason: ssl.SSLCertVerificationError) -> Finding:
    if reason.verify_code == _EXPIRED:
        return error("certificate_expired", f"the certificate of {name} has expired", _RENEW)
    if reason.verify_code in _HOST_MISMATCH:
        return error(
            "certificate_host",
            f"the certificate of {name} is for other names: {reason.verify_message}",
            "issue a certificate with this name, or use its name in the URL",
        )
    return error(
        "certificate_untrusted",
        f"the certificate of {name} is not trusted: {reason.verify_message}",
        "send the whole chain from the server; for an own CA, set SSL_CERT_FILE or `ca_file`",
    )


def _check_end(name: str, left: float) -> Iterator[Finding]:
    """Check the seconds that are left until a certificate expires."""
    if left <= 0:
        yield error("certificate_expired", f"the certificate of {name} has expired", _RENEW)
    elif left < _SOON:
        yield warning(
            "certificate_expires",
            f"the certificate of {name} expires in {count(round(left / _DAY), 'day')}",
            _RENEW,
        )


async def check_certificate_files(subject: Subject) -> list[Finding]:
    """Check the proxy's certificate and key of `maxgate certs dev`, and telemetry.certificates."""
    certificate, key = subject.tls_folder / "tls.crt", subject.tls_folder / "tls.key"
    monitored = subject.settings.telemetry.certificates
    now, results = subject.host.now(), []
    if certificate.exists() or key.exists():
        results += list(_check_pair(certificate, key, now)) or [ok(f"{certificate} is valid")]
    if subject.host.has_package("cryptography"):
        for file in monitored:
            results += list(_check_monitored(file, now)) or [ok(f"{file} is valid")]
    faults = [finding for finding in results if finding.level != "ok"]
    return faults or results or [ok(f"no certificates in {subject.tls_folder}")]


def _check_monitored(file: Path, now: float) -> Iterator[Finding]:
    """Check a certificate whose expiry the gateway exports."""
    name = f"telemetry.certificates {file}"
    remedy = "correct telemetry.certificates, or let the gateway's user read the file"
    try:
        end = read_expiry(file)
    except OSError as reason:
        yield error("certificate_unreadable", f"{name}: {reason.strerror}", remedy)
    except ValueError:
        yield error("certificate_unreadable", f"{name}: not a certificate in PEM", remedy)
    else:
        yield from _check_end(str(file), end - now)


def _check_pair(certificate: Path, key: Path, now: float) -> Iterator[Finding]:
    for file in (certificate, key):
        if not file.exists():
            yield error(
                "certificate_incomplete", f"{file} does not exist", "run: maxgate certs dev"
            )
            return
    try:
        found = _read_certificate(certificate, key)
    except ssl.SSLCertVerificationError as reason:
        yield _describe_fault(str(certificate), reason)
    except (OSError, ssl.SSLError) as reason:
        mismatch = getattr(reason, "reason", "") == "KEY_VALUES_MISMATCH"
        fault = f"does not belong to {certificate}" if mismatch else "or its certificate is invalid"
        yield error("certificate_key", f"the key {key} {fault}", "run: maxgate certs dev")
    else:
        yield from _check_end(str(certificate), ssl.cert_time_to_seconds(found["notAfter"]) - now)


def _read_certificate(certificate: Path, key: Path) -> Mapping[str, Any]:
    """Return the fields of a certificate by a handshake in memory, in which it is trusted.

    Raises SSLError if it has expired, or does not belong to the key.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert() or {}
