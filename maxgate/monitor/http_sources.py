"""Sources read over HTTP: the gateway, and the metrics of each engine."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from maxgate.monitor.gateway_metrics import parse_gateway_metrics
from maxgate.monitor.max_metrics import parse_max_metrics, split_queue
from maxgate.monitor.snapshot import EngineReading, GatewayReading

_TIMEOUT: Final = 3.0
_MIN_DELAY: Final = 1.0
_MAX_DELAY: Final = 10.0


class Backoff:
    """Exponential backoff: 1 s after the first failure, doubled per further failure up to 10 s."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._retry_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether the next attempt may start."""
        return now >= self._retry_at

    def record_failure(self, now: float) -> None:
        """Increase the delay and start it now."""
        self._delay = min(self._delay * 2, _MAX_DELAY) if self._delay else _MIN_DELAY
        self._retry_at = now + self._delay

    def reset(self) -> None:
        """Clear the delay after a success."""
        self._delay, self._retry_at = 0.0, float("-inf")


class GatewaySource:
    """Reads the gateway's metrics, with backoff while they cannot be read."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._backoff = Backoff()
        self._error: str | None = None

    async def read(self, elapsed: float) -> tuple[GatewayReading | None, str | None]:
        """The reading and None, or None and the error."""
        if not self._backoff.is_due(elapsed):
            return None, self._error
        try:
            response = await self._client.get(
                f"{self._url}/metrics", params={"buckets": "true"}, timeout=_TIMEOUT
            )
            reading = parse_gateway_metrics(_parse_json(response))
        except (httpx.HTTPError, ValueError) as error:
            self._backoff.record_failure(elapsed)
            self._error = describe_error(error)
            return None, self._error
        self._backoff.reset()
        return reading, None


def _parse_json(response: httpx.Response) -> object:
    if response.status_code == 404:
        raise ValueError("HTTP 404, not a maxgate gateway")
    response.raise_for_status()
    try:
        document: object = response.json()
    except ValueError as error:
        raise ValueError("not a maxgate gateway") from error
    return document


class EngineSource:
    """Reads the metrics of all engines concurrently, with backoff per engine."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str] = ()) -> None:
        self._client = client
        self._configured_urls = tuple(urls)
        self._discovered_urls: tuple[str, ...] = ()
        self._backoffs: dict[str, Backoff] = {}
        self._errors: dict[str, str] = {}
        self._most_running: dict[str, float] = {}

    async def read(
        self, elapsed: float, gateway: GatewayReading | None
    ) -> tuple[EngineReading, ...]:
        """One reading per engine: the configured ones or, if none are, those of the gateway.

        While the gateway is unreachable, the last discovered engines are read.
        """
        if gateway is not None:
            self._discovered_urls = tuple(metrics_url(engine.url) for engine in gateway.engines)
        urls = self._configured_urls or self._discovered_urls
        return tuple(await asyncio.gather(*(self._read_engine(url, elapsed) for url in urls)))

    async def _read_engine(self, url: str, elapsed: float) -> EngineReading:
        backoff = self._backoffs.setdefault(url, Backoff())
        if not backoff.is_due(elapsed):
            return EngineReading(url, error=self._errors[url])
        try:
            response = await self._client.get(url, timeout=_TIMEOUT)
            response.raise_for_status()
            reading = parse_max_metrics(url, response.text)
        except (httpx.HTTPError, ValueError) as error:
            backoff.record_failure(elapsed)
            self._errors[url] = describe_error(error)
            return EngineReading(url, error=self._errors[url])
        backoff.reset()
        gauges = split_queue(reading.gauges, self._most_running.get(url))
        if "queued" in gauges:
            running = gauges.get("running", 0.0)
            self._most_running[url] = max(running, self._most_running.get(url, 0.0))
        return replace(reading, gauges=gauges)


def metrics_url(engine_url: str) -> str:
    """The URL of MAX's metrics: the port after the engine's, as the gateway starts MAX.

    MAX's own default, 8001, matches an engine on port 8000.
    """
    parts = urlsplit(engine_url)
    port = (parts.port or (443 if parts.scheme == "https" else 80)) + 1
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{port}", "/metrics", "", ""))


def describe_error(error: Exception) -> str:
    """Describe in a few words why a source could not be read."""
    match error:
        case httpx.HTTPStatusError() if error.response.status_code in {401, 403}:
            return f"HTTP {error.response.status_code}, set --api-key"
        case httpx.HTTPStatusError():
            return f"HTTP {error.response.status_code}"
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return "connection failed"
        case httpx.TimeoutException():
            return f"no response within {_TIMEOUT:.0f} s"
        case httpx.HTTPError():
            return "connection closed"
        case _:
            return str(error)
