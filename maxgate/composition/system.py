"""Builds what reads the host, its GPUs and certificates for `/metrics`."""

from functools import partial

from maxgate.installation import requires_extra
from maxgate.settings import Settings
from maxgate.telemetry.system import (
    NamedSource,
    SystemReader,
    export_gpus,
    export_host,
    read_certificate,
)


def build_system(settings: Settings) -> SystemReader | None:
    """Build the reader of the enabled metrics, None without any.

    Raises ConfigurationError if a package is missing.
    """
    telemetry = settings.telemetry
    sources: list[NamedSource] = []
    if telemetry.host:
        with requires_extra("telemetry.host", "host"):
            from maxgate.hardware.host import read_host  # noqa: PLC0415  # of an extra
        folder = settings.state_dir
        sources.append(
            (
                "telemetry.host",
                lambda: export_host(
                    read_host(next(path for path in (folder, *folder.parents) if path.exists()))
                ),
            )
        )
    if telemetry.gpu:
        with requires_extra("telemetry.gpu", "host"):
            from maxgate.hardware.gpus import GpuSource  # noqa: PLC0415  # of an extra
        gpus = GpuSource()
        sources.append(("telemetry.gpu", lambda: export_gpus(gpus.read())))
    if telemetry.certificates:
        with requires_extra("telemetry.certificates", "tls"):
            import cryptography  # noqa: F401, PLC0415  # of an extra
        sources += [
            (f"telemetry.certificates {file}", partial(read_certificate, file))
            for file in telemetry.certificates
        ]
    return SystemReader(sources) if sources else None
