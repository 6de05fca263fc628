"""A real Prometheus that gets samples by remote write, at the time of a simulation."""

import math
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from tests.fakes.processes import free_port

PROGRAM: Final = "prometheus"
INSTALL: Final = "apt-get install prometheus"
_START_TIMEOUT: Final = 20.0
_HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
# NaN with this payload marks the end of a series, as a failed scrape does.
STALE: Final[float] = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
Labels = tuple[tuple[str, str], ...]


class Prometheus:
    """A running Prometheus; times are in seconds since 1970."""

    def __init__(self, url: str) -> None:
        self.queries = 0
        self._client = httpx.Client(base_url=url, timeout=10)

    def write(self, at: float, samples: Mapping[Labels, float]) -> None:
        """Append a sample to each series. Labels include `__name__`, and times only grow."""
        series = b"".join(
            _field(1, _encode_series(labels, value, round(at * 1000)))
            for labels, value in samples.items()
        )
        response = self._client.post("/api/v1/write", content=_compress(series), headers=_HEADERS)
        if response.is_error:
            raise RuntimeError(f"Prometheus refused samples: {response.text.strip()}")

    def query(self, expression: str, at: float) -> float | None:
        """Return the value of an expression as KEDA reads it: None without exactly one sample.

        Raises RuntimeError for an invalid expression.
        """
        self.queries += 1
        parameters = {"query": expression, "time": f"{at:.3f}"}
        response = self._client.post("/api/v1/query", data=parameters)
        if response.is_error:
            raise RuntimeError(f"Prometheus refused a query: {response.text.strip()}")
        result = response.json()["data"]["result"]
        if len(result) != 1:
            return None
        value = float(result[0]["value"][1])
        return value if math.isfinite(value) else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def start_prometheus() -> Iterator[Prometheus]:
    """Run a Prometheus with an empty database.

    Raises FileNotFoundError if the program is missing, and RuntimeError if it does not start.
    """
    with TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder) / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1m}\n")
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-remote-write-receiver",
                "--log.level=error",
            ],
        )
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        try:
            _wait_until_ready(prometheus, process)
            yield prometheus
        finally:
            prometheus.close()
            process.terminate()
            process.wait()


def _wait_until_ready(prometheus: Prometheus, process: "subprocess.Popen[bytes]") -> None:
    ends_at = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < ends_at:
        try:
            prometheus.query("vector(1)", time.time())
        except (httpx.TransportError, RuntimeError):  # it loads its database
            threading.Event().wait(0.05)
        else:
            return
    raise RuntimeError("Prometheus did not start")


def _encode_series(labels: Labels, value: float, milliseconds: int) -> bytes:
    """Encode prometheus.TimeSeries of the remote write protocol 1.0."""
    pairs = (
        _field(1, _field(1, name.encode()) + _field(2, text.encode()))
        for name, text in sorted(labels)
    )
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(milliseconds)
    return b"".join(pairs) + _field(2, sample)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _compress(content: bytes) -> bytes:
    """Return a valid Snappy block that holds the content as literals."""
    return _varint(len(content)) + b"".join(_list_literals(content))


def _list_literals(content: bytes) -> Iterable[bytes]:
    for start in range(0, len(content), 65_536):
        part = content[start : start + 65_536]
        yield bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
