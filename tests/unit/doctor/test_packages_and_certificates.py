"""Checks of `maxgate doctor` of packages and certificates, by settings."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from maxgate.doctor.certificates import check_certificate_files
from maxgate.doctor.consistency import check_packages, check_tracing
from maxgate.doctor.findings import Subject, count, error, ok, warning
from maxgate.installation import Installation
from maxgate.settings import Settings
from tests.fakes.doctor import FakeHost

CERTIFICATE = Path(__file__).parents[2] / "data" / "tls" / "ca.pem"


@pytest.mark.parametrize(
    ("settings", "package", "extra", "purpose"),
    [
        ({"tracing": {"enabled": True}}, "opentelemetry.sdk", "otel", "tracing.enabled"),
        ({"telemetry": {"host": True}}, "psutil", "host", "telemetry.host"),
        ({"telemetry": {"gpu": True}}, "pynvml", "host", "telemetry.gpu"),
        (
            {"telemetry": {"certificates": [CERTIFICATE]}},
            "cryptography",
            "tls",
            "telemetry.certificates",
        ),
    ],
)
async def test_packages(settings: dict[str, Any], package: str, extra: str, purpose: str) -> None:
    """A setting that needs an extra is an error without its package."""
    chosen = Settings.model_validate(settings)
    assert await check_packages(Subject(chosen, FakeHost(missing=frozenset({package})))) == [
        error(
            "package_missing",
            f"{purpose} needs the package {package}, which is not installed",
            f"run: {Installation.detect().format_install(extra)}",
        )
    ]
    assert await check_packages(Subject(chosen, FakeHost())) == [
        ok("1 optional package needed, all installed")
    ]


async def test_monitored_certificates(tmp_path: Path) -> None:
    """Files of telemetry.certificates have to be readable certificates that are valid for long."""
    from cryptography.x509 import load_pem_x509_certificate

    missing, text, good = tmp_path / "missing.pem", tmp_path / "text.pem", tmp_path / "good.pem"
    text.write_text("no certificate")
    shutil.copy(CERTIFICATE, good)
    end = load_pem_x509_certificate(CERTIFICATE.read_bytes()).not_valid_after_utc.timestamp()

    async def check(files: list[Path], days_left: float) -> list[Any]:
        host = FixedHost(at=end - days_left * 86_400)
        settings = Settings.model_validate({"telemetry": {"certificates": files}})
        return await check_certificate_files(Subject(settings, host, tls_folder=tmp_path / "tls"))

    remedy = "correct telemetry.certificates, or let the gateway's user read the file"
    renew = "renew the certificate; for development: maxgate certs dev"
    name = "telemetry.certificates"
    assert await check([good], 90) == [ok(f"{good} is valid")]
    assert await check([missing, good, text, tmp_path], 1) == [
        error("certificate_unreadable", f"{name} {missing}: No such file or directory", remedy),
        warning("certificate_expires", f"the certificate of {good} expires in 1 day", renew),
        error("certificate_unreadable", f"{name} {text}: not a certificate in PEM", remedy),
        error("certificate_unreadable", f"{name} {tmp_path}: Is a directory", remedy),
    ]
    assert await check([good], -1) == [
        error("certificate_expired", f"the certificate of {good} has expired", renew)
    ]


class FixedHost(FakeHost):
    """A machine whose time stands still."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def now(self) -> float:
        return self.at


def test_count() -> None:
    """A single thing is named in the singular."""
    assert [count(number, "worker") for number in (0, 1, 2)] == [
        "0 workers",
        "1 worker",
        "2 workers",
    ]


async def test_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OTEL_ variable that stops the gateway is an error."""
    subject = Subject(Settings(tracing={"enabled": True}), FakeHost())
    assert await check_tracing(subject) == [ok("the OTEL_ variables are valid")]
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    assert await check_tracing(subject) == [
        error(
            "tracing_variable",
            "OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER parentbased_always_on",
            "set parentbased_traceidratio, or unset OTEL_TRACES_SAMPLER_ARG",
        )
    ]
