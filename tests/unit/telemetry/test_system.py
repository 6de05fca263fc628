"""Metrics of the host, GPUs, certificates and the event loop."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from structlog.testing import capture_logs

from maxgate.composition.system import build_system
from maxgate.hardware.gpus import GpuSource
from maxgate.hardware.host import HostReading
from maxgate.settings import Settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from maxgate.telemetry.registry import HOST_CORES
from maxgate.telemetry.system import (
    Source,
    SystemReader,
    export_gpus,
    export_host,
    measure_lag,
    read_certificate,
)
from tests.conftest import ROOT
from tests.fakes.clock import FakeClock
from tests.fakes.nvml import FakeNvml

CERTIFICATE = ROOT / "tests" / "data" / "tls" / "ca.pem"


async def read_samples(*sources: Source) -> set[str]:
    """Return the samples of the exposition that come from these sources."""
    reader = MetricsReader(
        MetricsStore(FakeClock()), SystemReader([("a setting", one) for one in sources])
    )
    await reader.refresh()
    text, _ = reader.expose([], "text/plain")
    prefixes = ("maxgate_host_", "maxgate_gpu_", "maxgate_certificate_")
    return {line for line in text.decode().splitlines() if line.startswith(prefixes)}


async def test_host() -> None:
    """All numbers of the host are exported in base units."""
    host = HostReading(2, 3.5, 10.0, 4, 8, 5, 10)
    assert await read_samples(lambda: export_host(host)) == {
        "maxgate_host_cpu_cores 2.0",
        "maxgate_host_cpu_busy_seconds_total 3.5",
        "maxgate_host_memory_used_bytes 4.0",
        "maxgate_host_memory_size_bytes 8.0",
        "maxgate_host_disk_used_bytes 5.0",
        "maxgate_host_disk_size_bytes 10.0",
    }


async def test_gpus() -> None:
    """A GPU has samples only for what it reports."""
    first, second = 'gpu="0",name="GPU 0"', 'gpu="1",name="GPU 1"'
    samples = await read_samples(lambda: export_gpus(GpuSource(FakeNvml()).read()))
    assert samples == {
        f"maxgate_gpu_utilization_ratio{{{first}}} 0.97",
        f"maxgate_gpu_utilization_ratio{{{second}}} 0.97",
        f"maxgate_gpu_memory_used_bytes{{{first}}} 3.0",
        f"maxgate_gpu_memory_used_bytes{{{second}}} 3.0",
        f"maxgate_gpu_memory_size_bytes{{{first}}} 4.0",
        f"maxgate_gpu_memory_size_bytes{{{second}}} 4.0",
        f"maxgate_gpu_power_watts{{{first}}} 312.0",
        f"maxgate_gpu_temperature_celsius{{{first}}} 61.0",
        f'maxgate_gpu_throttled{{{first},reason="power limit"}} 1.0',
        f'maxgate_gpu_throttled{{{second},reason=""}} 0.0',
    }


async def test_no_gpu() -> None:
    """Without a GPU nothing is exported, rather than zeros."""
    gpus = GpuSource(FakeNvml(driver=False))
    assert await read_samples(lambda: export_gpus(gpus.read())) == set()


async def test_certificates(tmp_path: Path) -> None:
    """A file that cannot be read hides neither the other certificates nor the host."""
    missing = tmp_path / "missing.pem"
    samples = await read_samples(
        lambda: read_certificate(missing),
        lambda: read_certificate(CERTIFICATE),
        lambda: {HOST_CORES: {(): 2}},
    )
    names = {sample.partition(" ")[0] for sample in samples}
    assert names == {
        f'maxgate_certificate_expiry_timestamp_seconds{{file="{CERTIFICATE}"}}',
        "maxgate_host_cpu_cores",
    }


def test_certificate_expiry() -> None:
    """The time of expiry is in Unix seconds."""
    from cryptography.x509 import load_pem_x509_certificate

    [samples] = read_certificate(CERTIFICATE).values()
    expected = load_pem_x509_certificate(CERTIFICATE.read_bytes()).not_valid_after_utc
    assert samples == {
        (str(CERTIFICATE),): (expected - datetime.fromtimestamp(0, UTC)).total_seconds()
    }


async def test_settings(tmp_path: Path) -> None:
    """Nothing is read by default; a folder of state that does not exist yet has a disk."""
    assert build_system(Settings()) is None
    system = build_system(
        Settings(
            state_dir=tmp_path / "not" / "yet",
            telemetry={"host": True, "gpu": True, "certificates": [CERTIFICATE]},
        )
    )
    assert system is not None
    names = {metric.name for metric in await system.read() if "gpu" not in metric.name}
    assert names == {
        "maxgate_certificate_expiry_timestamp_seconds",
        *(metric.name for metric in export_host(HostReading(1, 1, 1, 1, 1, 1, 1))),
    }


async def test_unreadable(tmp_path: Path) -> None:
    """A reading that fails is logged once, with its setting and file."""
    missing = tmp_path / "missing.pem"
    system = build_system(Settings(telemetry={"certificates": [missing]}))
    assert system is not None
    with capture_logs() as lines:
        await system.read()
        await system.read()
    assert lines == [
        {
            "event": "metrics cannot be read",
            "setting": f"telemetry.certificates {missing}",
            "error": f"[Errno 2] No such file or directory: '{missing}'",
            "log_level": "warning",
        }
    ]


async def test_event_loop_lag() -> None:
    """Each delay is reported, and it is not negative."""
    lags: list[float] = []
    reported = asyncio.Event()

    def observe(lag: float) -> None:
        lags.append(lag)
        if len(lags) == 3:
            reported.set()

    task = asyncio.create_task(measure_lag(observe, 0.001))
    await reported.wait()
    task.cancel()
    await asyncio.wait([task])
    assert len(lags) >= 3
    assert min(lags) >= 0
