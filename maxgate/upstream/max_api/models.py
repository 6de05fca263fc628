"""Asking an engine which models it serves, and saying in a few words why it did not answer."""

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from maxgate.errors import EngineError
from maxgate.upstream.replica import EngineModel


class ModelListError(EngineError):
    """No list came; `refused` says that nothing listens at the address."""

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


async def list_models(
    client: httpx.AsyncClient, url: str, *, seconds: float
) -> Mapping[str, EngineModel]:
    """The models by their names at the engine.

    Raises ModelListError.
    """
    try:
        response = await client.get(f"{url}/v1/models", timeout=seconds)
        return _read(response)
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ModelListError(
            _reason(error), refused=isinstance(error, httpx.ConnectError)
        ) from error


def _read(response: httpx.Response) -> Mapping[str, EngineModel]:
    response.raise_for_status()
    entries: list[dict[str, Any]] = orjson.loads(response.content)["data"]
    return {
        entry["id"]: EngineModel(entry["id"], entry["created"], entry.get("max_model_len"))
        for entry in entries
    }


def _reason(error: Exception) -> str:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return "no connection"
        case httpx.TimeoutException():
            return "no answer in time"
        case httpx.HTTPStatusError():
            return f"answered {error.response.status_code}"
        case httpx.HTTPError():
            return "hung up"
        case _:
            return "its list of models could not be read"
