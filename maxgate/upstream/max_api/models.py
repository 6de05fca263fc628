"""List the models of an engine with MAX's `GET /v1/models`."""

import asyncio
from collections.abc import Mapping

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
    """Return the models of the engine at `url` by name.

    `read_timeout`, in seconds, bounds the whole request.

    Raises ModelListError.
    """
    route = resolve_route(url, "/v1/models", "GET")
    try:
        request = EngineRequest(route, b"", read_timeout, read_timeout, read_timeout)
        async with asyncio.timeout(read_timeout), await client.send(request) as response:
            status, content = response.status, await response.read()
    except EngineUnreachable as error:
        reason = "no connection" if error.is_connect_failure else "connection closed"
        raise ModelListError(reason, refused=error.failure == "refused") from error
    except (UpstreamTimeout, TimeoutError) as error:
        raise ModelListError("no response in time") from error
    except GatewayError as error:
        raise ModelListError("connection closed") from error
    if status != 200:
        raise ModelListError(f"responded with {status}")
    try:
        return {
            entry["id"]: EngineModel(entry["id"], entry["created"], entry.get("max_model_len"))
            for entry in orjson.loads(content)["data"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ModelListError("invalid model list") from error
