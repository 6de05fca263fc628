"""Asking a server who it is, before it is loaded."""

from collections.abc import Mapping

import httpx

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.client.address import parse_address
from maxgate.tools.loadtest.client.client import ServerAway


def first_model(url: str, headers: Mapping[str, str]) -> str | None:
    """The first model of `GET /v1/models`; None where the server does not list any.

    Raises ServerAway where nobody answers, and ConfigurationError where a key is asked for.
    """
    base = parse_address(url).url
    try:
        with httpx.Client(trust_env=False, timeout=10, headers=dict(headers)) as client:
            answer = client.get(f"{base}/v1/models")
    except httpx.HTTPError as error:
        raise ServerAway(
            f"{base} does not answer: {error}; is the server up? `make run` starts one"
        ) from error
    if answer.status_code in {401, 403}:
        raise ConfigurationError(f"{base} asks for a key; give --api-key")
    try:
        listed = answer.json()["data"]
        return str(listed[0]["id"]) if listed else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
