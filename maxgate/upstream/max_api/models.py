"""List the models of an engine with MAX's `GET /v1/models`."""

from collections.abc import Mapping
from typing import Any

import orjson

from maxgate.errors import EngineError, GatewayError, UpstreamTimeout
from maxgate.upstream.client import EngineClient
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.replica import EngineModel


class ModelListError(EngineError):
    """The engine returned no model list; the text is the reason in a few words.

    `refused` means that no connection could be opened.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


async def list_models(
    client: EngineClient, url: str, *, read_timeout: float
) -> Mapping[str, EngineModel]:
    """Return the models of the engine at `url` by name. `read_timeout` is in seconds.

    Raises ModelListError.
    """
    route = resolve_route(url, "/v1/models", "GET")
    try:
        request = EngineRequest(route, b"", read_timeout, read_timeout, read_timeout)
        async with await client.send(request) as response:
            status, content = response.status, await response.read()
    except EngineUnreachable as error:
        reason = "no connection" if error.is_connect_failure else "connection closed"
        raise ModelListError(reason, refused=error.failure == "refused") from error
    except UpstreamTimeout as error:
        raise ModelListError("no response in time") from error
    except GatewayError as error:
        raise ModelListError("connection closed") from error
    if status != 200:
        raise ModelListError(f"responded with {status}")
    try:
        models = [_parse_model(entry) for entry in orjson.loads(content)["data"]]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ModelListError("invalid model list") from error
    return {model.name: model for model in models}


def _parse_model(entry: Mapping[str, Any]) -> EngineModel:
    """Raises KeyError or TypeError if the entry is not a model."""
    name, created, length = entry["id"], entry["created"], entry.get("max_model_len")
    if not (isinstance(name, str) and name and isinstance(created, int | float)):
        raise TypeError("invalid id or creation time")
    if length is not None and not (isinstance(length, int) and length > 0):
        raise TypeError("invalid context length")
    return EngineModel(name, int(created), length)
