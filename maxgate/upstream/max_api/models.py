"""List the models of an engine with MAX's `GET /v1/models`."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from maxgate.errors import (
    EngineError,
    GatewayError,
    OutOfResources,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from maxgate.upstream.client import EngineClient
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.replica import EngineModel

_NOT_COMPATIBLE: Final = ": not an OpenAI-compatible server"
_NOT_ALLOWED: Final = ": credentials are missing or wrong"
_HINTS: Final = {404: _NOT_COMPATIBLE, 405: _NOT_COMPATIBLE, 401: _NOT_ALLOWED, 403: _NOT_ALLOWED}
# Names of engines by their `owned_by`, which is empty for MAX.
_SOFTWARE: Final = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llamacpp": "llama.cpp",
    "library": "Ollama",
    "me": "llama-cpp-python",
    "": "MAX",
}


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

    Raises ModelListError, and OutOfResources or UpstreamOverloaded if the request was not sent.
    """
    route = resolve_route(url, "/v1/models", "GET")
    try:
        request = EngineRequest(route, b"", read_timeout, read_timeout, read_timeout)
        async with asyncio.timeout(read_timeout), await client.send(request) as response:
            status, content = response.status, await response.read()
    except EngineUnreachable as error:
        raise ModelListError(error.cause, refused=error.failure == "refused") from error
    except (UpstreamTimeout, TimeoutError) as error:
        raise ModelListError("no response in time") from error
    except (OutOfResources, UpstreamOverloaded):
        raise
    except GatewayError as error:
        raise ModelListError(error.message) from error
    if status != 200:
        hint = _HINTS.get(status, "")
        raise ModelListError(f"responded with {status} to GET /v1/models{hint}")
    try:
        # Ollama without models has null.
        models = [_parse_model(entry) for entry in orjson.loads(content)["data"] or ()]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ModelListError("invalid model list: not an OpenAI-compatible server") from error
    return {model.name: model for model in models}


def _parse_model(entry: Mapping[str, Any]) -> EngineModel:
    """Parse one model; raises KeyError or TypeError if the entry is not a model."""
    name, created, length = entry["id"], entry.get("created") or 0, entry.get("max_model_len")
    if not (isinstance(name, str) and name and isinstance(created, int | float)):
        raise TypeError("invalid id or creation time")
    if length is not None and not (isinstance(length, int) and length > 0):
        raise TypeError("invalid context length")
    owner = str(entry.get("owned_by") or "")
    software = _SOFTWARE.get(owner, owner)
    return EngineModel(name, int(created), length, software)
