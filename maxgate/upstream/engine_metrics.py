"""Live load of engines, from the metrics that MAX exports in Prometheus's text format.

Other gateways and other workers send requests too, which only the engine can count. Without fresh
metrics, the load is what this worker has sent: metrics never stop traffic.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import structlog

from maxgate.errors import EngineError, GatewayError
from maxgate.upstream.client import EngineClient
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.replica import Replica

MAX_METRICS_BYTES: Final = 2 * 1024 * 1024
MAX_REQUESTS: Final = 1_000_000
"""Plausible number of requests at one engine; metrics beyond it are invalid."""
STALE_INTERVALS: Final = 3
"""Intervals after which a reading no longer counts."""
_SAMPLE: Final = re.compile(
    rb"^maxserve_num_requests_(running|queued|awaiting_admission)"
    rb"(\{[^}\n]*\})?[ \t]+([^\s]+)",
    re.MULTILINE,
)
_NUMBER: Final = re.compile(rb"\+?\d{1,20}(?:\.\d{0,20})?(?:[eE]\+?\d{1,2})?")

_log = structlog.get_logger()


class InvalidMetrics(EngineError):
    """The engine's metrics cannot be used; the text is the reason in a few words."""


def parse_requests(content: bytes) -> int:
    """Return the number of requests at the engine: running, queued and not yet admitted.

    MAX publishes a gauge only after its first value, so absent gauges are 0. Of a gauge with and
    without labels, the sample without labels is the total.

    Raises InvalidMetrics if these are not the metrics of MAX, or if a value is not plausible.
    """
    if b"maxserve_" not in content:
        raise InvalidMetrics("no metrics of MAX")
    labelled: dict[bytes, float] = {}
    totals: dict[bytes, float] = {}
    for name, labels, text in _SAMPLE.findall(content):
        value = float(text) if _NUMBER.fullmatch(text) else -1.0
        if not 0 <= value <= MAX_REQUESTS:
            raise InvalidMetrics("implausible values")
        if labels:
            labelled[name] = labelled.get(name, 0.0) + value
        else:
            totals[name] = value
    return int(min(sum((labelled | totals).values()), MAX_REQUESTS))


def default_metrics_url(url: str, port: int = 0) -> str:
    """Return the URL of the metrics of a MAX that the gateway has started at `url`.

    By default, it exports them at the port after its own.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = port or (parts.port or 80) + 1
    return urlunsplit((parts.scheme, f"{host}:{port}", "/metrics", "", ""))


class _Reading(NamedTuple):
    at: float
    own: int


class EngineMetricsMonitor:
    """Reads the metrics of every replica and updates its load.

    Replicas without a `metrics_url` are read at the URL that `default_url` returns for theirs, if
    any. `interval`, in seconds, is also the timeout; 0 turns the readings off.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        interval: float,
        default_url: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._replicas = replicas
        self._client = client
        self._interval = interval
        self._default_url = default_url
        self._on_own: Callable[[str, int], None] | None = None
        self._readings: dict[Replica, _Reading] = {}
        self._failing: set[Replica] = set()

    def on_own(self, callback: Callable[[str, int], None]) -> None:
        """Call this when a reading finds another number of this worker's own requests.

        It gets the URL of the replica and the change since the reading before.
        """
        self._on_own = callback

    async def run(self) -> None:
        """Read all metrics at the interval until cancelled."""
        if not self._interval:
            return
        while True:
            with suppress(Exception):  # without readings, the load falls back to own counts
                await self.poll()
            await asyncio.sleep(self._interval)

    async def poll(self) -> None:
        """Read the metrics of all replicas once, at the same time."""
        urls = {r: r.metrics_url or self._default_url(r.url) for r in self._replicas}
        polled = {replica: url for replica, url in urls.items() if url is not None}
        for replica in self._readings.keys() - polled.keys():
            self._forget(replica)
        self._failing.intersection_update(polled)
        # An error that is left is a bug in the report of a failure, and ends no other reading.
        polls = (self._poll(replica, url) for replica, url in polled.items())
        await asyncio.gather(*polls, return_exceptions=True)

    async def _poll(self, replica: Replica, url: str) -> None:
        loop = asyncio.get_running_loop()
        before = replica.in_flight
        try:
            async with asyncio.timeout(self._interval):
                requests = parse_requests(await self._fetch(url))
            # Some of our own requests may have begun or ended while the metrics were read.
            own = max(before, replica.in_flight)
            replica.reported_requests = requests
            replica.engine_load = float(max(requests - own, 0))
            self._set_own(replica, replica.in_flight)
            self._readings[replica] = _Reading(loop.time(), replica.in_flight)
            self._failing.discard(replica)
        except (GatewayError, InvalidMetrics, TimeoutError) as error:
            self._fail(replica, str(error) or "no response in time", loop.time())
        except Exception as error:  # noqa: BLE001  # whatever a hostile response causes
            self._fail(replica, type(error).__name__, loop.time())

    async def _fetch(self, url: str) -> bytes:
        route = resolve_route(url, "", "GET")
        timeout = self._interval
        request = EngineRequest(route, b"", timeout, timeout, timeout)
        async with await self._client.send(request) as response:
            if response.status != 200:
                raise InvalidMetrics(f"status {response.status}")
            return await response.read(MAX_METRICS_BYTES)

    def _fail(self, replica: Replica, reason: str, now: float) -> None:
        reading = self._readings.get(replica)
        if reading is not None and now - reading.at >= STALE_INTERVALS * self._interval:
            self._forget(replica)
        if replica not in self._failing:
            self._failing.add(replica)
            _log.warning("metrics of the engine cannot be read", engine=replica.url, error=reason)

    def _forget(self, replica: Replica) -> None:
        self._set_own(replica, 0)
        self._readings.pop(replica, None)
        replica.engine_load, replica.reported_requests = 0.0, None

    def _set_own(self, replica: Replica, own: int) -> None:
        reading = self._readings.get(replica)
        change = own - (0 if reading is None else reading.own)
        if change and self._on_own is not None:
            self._on_own(replica.url, change)
