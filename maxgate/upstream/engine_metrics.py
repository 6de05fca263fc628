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
DISCOVERY_INTERVAL: Final = 30.0
"""Seconds between attempts to find the metrics of an engine for which no URL is configured."""
# Share of used KV cache blocks from which on each request counts for more.
_PRESSURE_BEGINS: Final = 0.8
_RUNNING: Final = b"num_requests_running"
_QUEUED: Final = b"num_requests_queued"
_AWAITING: Final = b"num_requests_awaiting_admission"
_QUEUES: Final = (_RUNNING, _QUEUED, _AWAITING)
_USED, _TOTAL, _PREEMPTIONS = (
    b"cache_num_used_blocks",
    b"cache_num_total_blocks",
    b"cache_preemption_count_total",
)
_SAMPLE: Final = re.compile(
    rb"^maxserve_(%b)(\{[^}\n]*\})?[ \t]+([^\s]+)"
    % b"|".join([*_QUEUES, _USED, _TOTAL, _PREEMPTIONS]),
    re.MULTILINE,
)
_NUMBER: Final = re.compile(rb"\+?\d{1,20}(?:\.\d{0,20})?(?:[eE]\+?\d{1,2})?")

_LAST_PORT: Final = 65_535

_log = structlog.get_logger("upstream")


class InvalidMetrics(EngineError):
    """The engine's metrics cannot be used; the text is the reason in a few words."""


class EngineMetrics(NamedTuple):
    """The load that an engine reports.

    `requests` are all from their arrival to their end, and `queued` those of them that wait; None
    if MAX has not told. `kv_use` is the used share of the KV cache, without blocks that are only
    kept for later prompts. `preemptions` counts requests that lost their place in the KV cache
    since the engine started.
    """

    requests: int
    kv_use: float = 0.0
    preemptions: float = 0.0
    queued: int | None = None


def parse_metrics(content: bytes) -> EngineMetrics:
    """Return the load in the metrics of MAX.

    `num_requests_running` counts requests in the queue, too. MAX publishes a metric only after its
    first value, so absent ones are 0, except for the depth of the queue: a reading lacks it if the
    scheduler has made no step since the previous reading, by any reader. Of a metric with and
    without labels, the sample without labels is the total.

    Raises InvalidMetrics if these are not the metrics of MAX, or if a value is not plausible.
    """
    if b"maxserve_" not in content:
        raise InvalidMetrics("no metrics of MAX")
    labelled: dict[bytes, float] = {}
    totals: dict[bytes, float] = {}
    for name, labels, text in _SAMPLE.findall(content):
        value = float(text) if _NUMBER.fullmatch(text) else -1.0
        if value < 0 or (name in _QUEUES and value > MAX_REQUESTS):
            raise InvalidMetrics("implausible values")
        if labels:
            labelled[name] = labelled.get(name, 0.0) + value
        else:
            totals[name] = value
    values = labelled | totals
    total_blocks = values.get(_TOTAL, 0.0)
    requests = int(values.get(_RUNNING, 0.0))
    queued = int(values.get(_QUEUED, 0.0) + values.get(_AWAITING, 0.0))
    return EngineMetrics(
        requests,
        min(values.get(_USED, 0.0) / total_blocks, 1.0) if total_blocks else 0.0,
        values.get(_PREEMPTIONS, 0.0),
        min(queued, requests) if _QUEUED in values else None,
    )


def compute_pressure(metrics: EngineMetrics, preemptions_before: float | None) -> float:
    """Return how short the engine is of KV cache, from 0 to 1.

    It grows from 0 at 80 % use to 1 at 100 %, and is 1 if requests were preempted since the reading
    before, whose count is None if there was none.
    """
    if preemptions_before is not None and metrics.preemptions > preemptions_before:
        return 1.0
    return max(metrics.kv_use - _PRESSURE_BEGINS, 0.0) / (1 - _PRESSURE_BEGINS)


def default_metrics_url(url: str, port: int = 0) -> str:
    """Return the URL at which the MAX at `url` exports its metrics: by default the next port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = port or (parts.port or 80) + 1
    return urlunsplit((parts.scheme, f"{host}:{port}", "/metrics", "", ""))


def discover_metrics_url(url: str) -> str | None:
    """Return the URL to try for an engine at `url`, None if it is unlikely to be MAX's own port."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port is None or parts.port == _LAST_PORT:
        return None
    return default_metrics_url(url)


class _Reading(NamedTuple):
    at: float
    own: int
    preemptions: float


class EngineMetricsMonitor:
    """Reads the metrics of every replica and updates its load.

    Replicas without a `metrics_url` are read at the URL that `default_url` returns for theirs, if
    any. With `discovers`, the others are tried at the port after their own, and read if MAX exports
    its metrics there. `interval`, in seconds, is also the timeout; 0 turns the readings off.
    Requests at an engine whose KV cache is full count `pressure_factor` times.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        interval: float,
        default_url: Callable[[str], str | None] = lambda _: None,
        pressure_factor: float = 1.0,
        *,
        discovers: bool = False,
    ) -> None:
        self._replicas = replicas
        self._client = client
        self._interval = interval
        self._default_url = default_url
        self._pressure_factor = pressure_factor
        self._on_own: Callable[[str, int], None] | None = None
        self._readings: dict[Replica, _Reading] = {}
        self._most_running: dict[Replica, int] = {}
        self._failing: set[Replica] = set()
        self._discovers = discovers
        self._next_discovery: dict[Replica, float] = {}

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
        if self._discovers:
            polled |= self._find_candidates([r for r, url in urls.items() if url is None])
        for replica in self._readings.keys() - polled.keys():
            self._forget(replica)
        self._failing.intersection_update(polled)
        # An error that is left is a bug in the report of a failure, and ends no other reading.
        polls = (self._poll(replica, url) for replica, url in polled.items())
        await asyncio.gather(*polls, return_exceptions=True)

    def _find_candidates(self, replicas: Sequence[Replica]) -> dict[Replica, str]:
        """Return the URLs to try, and those found before."""
        now = asyncio.get_running_loop().time()
        known = {replica: now for replica in replicas if replica in self._readings}
        due = {replica: self._next_discovery.get(replica, now) for replica in replicas} | known
        self._next_discovery = due
        engines = {urlsplit(replica.url).netloc for replica in self._replicas}
        return {
            replica: url
            for replica, at in due.items()
            if at <= now
            and (url := discover_metrics_url(replica.url))
            and urlsplit(url).netloc not in engines
        }

    async def _poll(self, replica: Replica, url: str) -> None:
        loop = asyncio.get_running_loop()
        before = replica.in_flight
        try:
            async with asyncio.timeout(self._interval):
                metrics = parse_metrics(await self._fetch(url))
            self._update(replica, metrics, loop.time(), max(before, replica.in_flight))
        except (GatewayError, InvalidMetrics, TimeoutError) as error:
            self._fail(replica, str(error) or "no response in time", loop.time())
        except Exception as error:  # noqa: BLE001  # whatever a hostile response causes
            self._fail(replica, type(error).__name__, loop.time())

    def _update(self, replica: Replica, metrics: EngineMetrics, now: float, own: int) -> None:
        """Update the load, given our own requests.

        Some of them may have begun or ended while the metrics were read: `own` is their maximum.
        """
        reading = self._readings.get(replica)
        pressure = compute_pressure(metrics, None if reading is None else reading.preemptions)
        factor = 1 + (self._pressure_factor - 1) * pressure
        running = self._count_running(replica, metrics)
        replica.reported_requests = metrics.requests
        replica.reported_running = running
        replica.reported_queued = metrics.requests - running
        replica.kv_use = metrics.kv_use
        replica.engine_load = max(metrics.requests * factor - own, 0.0)
        self._set_own(replica, replica.in_flight)
        self._readings[replica] = _Reading(now, replica.in_flight, metrics.preemptions)
        self._failing.discard(replica)

    def _count_running(self, replica: Replica, metrics: EngineMetrics) -> int:
        """Return the requests that the engine works on.

        Without the depth of the queue, these are as many as it has worked on before, at most.
        """
        most = self._most_running.get(replica, 0)
        if metrics.queued is None:
            return min(metrics.requests, most) if most else metrics.requests
        running = metrics.requests - metrics.queued
        self._most_running[replica] = max(most, running)
        return running

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
        if replica in self._next_discovery and reading is None:
            self._next_discovery[replica] = now + DISCOVERY_INTERVAL
        elif replica not in self._failing:
            self._failing.add(replica)
            _log.warning("metrics of the engine cannot be read", engine=replica.url, error=reason)

    def _forget(self, replica: Replica) -> None:
        self._set_own(replica, 0)
        self._readings.pop(replica, None)
        self._most_running.pop(replica, None)
        replica.engine_load, replica.reported_requests = 0.0, None
        replica.reported_running = replica.reported_queued = replica.kv_use = None

    def _set_own(self, replica: Replica, own: int) -> None:
        reading = self._readings.get(replica)
        change = own - (0 if reading is None else reading.own)
        if change and self._on_own is not None:
            self._on_own(replica.url, change)
