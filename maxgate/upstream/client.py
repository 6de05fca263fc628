"""The httpx client that all traffic to engines goes through."""

import httpx

from maxgate.upstream.settings import UpstreamSettings


def engine_client(
    settings: UpstreamSettings, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client with a connection pool; `transport` stands in for the network in tests."""
    return httpx.AsyncClient(
        transport=transport,
        limits=httpx.Limits(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_connections,
            keepalive_expiry=settings.keepalive_expiry,
        ),
        timeout=httpx.Timeout(settings.response_timeout, connect=settings.connect_timeout),
        trust_env=False,  # a proxy in the environment is not meant for engines
    )
