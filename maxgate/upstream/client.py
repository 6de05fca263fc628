"""The httpx client for what is not on the way of a request."""

import httpx


def probe_client(transport: httpx.AsyncBaseTransport, timeout: float) -> httpx.AsyncClient:
    """A client over the transport that requests use, too."""
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
