"""Who is asked over HTTP: the gateway, and each engine for its own metrics."""

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from maxgate.monitor.gateway_metrics import read_gateway
from maxgate.monitor.max_metrics import read_engine
from maxgate.monitor.snapshot import EngineReading, GatewayReading

_FIRST: Final = 1.0
_LONGEST: Final = 10.0


class Pauses:
    """One second after the first failure, twice as long after each further one, up to ten."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = float("-inf")

    def over(self, now: float) -> bool:
        """Whether it may be asked again."""
        return now >= self._until

    def failed(self, now: float) -> None:
        """It did not answer."""
        self._pause = min(self._pause * 2, _LONGEST) if self._pause else _FIRST
        self._until = now + self._pause

    def succeeded(self) -> None:
        """It answered."""
        self._pause, self._until = 0.0, float("-inf")


_TIMEOUT: Final = 3.0


class GatewaySource:
    """Reads the gateway; while it cannot be asked, with longer and longer pauses."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._pauses = Pauses()
        self._error: str | None = None

    async def read(self, elapsed: float) -> tuple[GatewayReading | None, str | None]:
        """The reading, or None and why there is none."""
        if not self._pauses.over(elapsed):
            return None, self._error
        try:
            response = await self._client.get(
                f"{self._url}/metrics", params={"buckets": "true"}, timeout=_TIMEOUT
            )
            reading = read_gateway(_json(response))
        except (httpx.HTTPError, ValueError) as error:
            self._pauses.failed(elapsed)
            self._error = reason(error)
            return None, self._error
        self._pauses.succeeded()
        return reading, None


class EngineSource:
    """Reads the metrics of engines, all at once."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str] = ()) -> None:
        self._client = client
        self._given = tuple(urls)
        self._found: tuple[str, ...] = ()
        self._pauses: dict[str, Pauses] = {}
        self._errors: dict[str, str] = {}

    async def read(
        self, elapsed: float, gateway: GatewayReading | None
    ) -> tuple[EngineReading, ...]:
        """A reading per engine; those of the gateway where no addresses were given.

        Engines that were known stay known while the gateway is away.
        """
        if gateway is not None:
            self._found = tuple(metrics_url(engine.url) for engine in gateway.engines)
        urls = self._given or self._found
        return tuple(await asyncio.gather(*(self._read(url, elapsed) for url in urls)))

    async def _read(self, url: str, elapsed: float) -> EngineReading:
        pauses = self._pauses.setdefault(url, Pauses())
        if not pauses.over(elapsed):
            return EngineReading(url, error=self._errors[url])
        try:
            response = await self._client.get(url, timeout=_TIMEOUT)
            response.raise_for_status()
            reading = read_engine(url, response.text)
        except (httpx.HTTPError, ValueError) as error:
            pauses.failed(elapsed)
            self._errors[url] = reason(error)
            return EngineReading(url, error=self._errors[url])
        pauses.succeeded()
        return reading


def metrics_url(engine_url: str) -> str:
    """Where MAX has its metrics: on the port after its own, as the gateway starts it.

    MAX by itself has them on 8001, which is the same for an engine on 8000.
    """
    parts = urlsplit(engine_url)
    port = (parts.port or (443 if parts.scheme == "https" else 80)) + 1
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{port}", "/metrics", "", ""))


def reason(error: Exception) -> str:
    """Why something could not be read, in a few words."""
    match error:
        case httpx.HTTPStatusError() if error.response.status_code in {401, 403}:
            return f"answered {error.response.status_code}; give a key with --api-key"
        case httpx.HTTPStatusError():
            return f"answered {error.response.status_code}"
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return "no connection"
        case httpx.TimeoutException():
            return f"no answer within {_TIMEOUT:.0f} s"
        case httpx.HTTPError():
            return "hung up"
        case _:
            return str(error)


def _json(response: httpx.Response) -> object:
    response.raise_for_status()
    try:
        parsed: object = response.json()
    except ValueError as error:
        raise ValueError("it answers, but not as maxgate does") from error
    return parsed
