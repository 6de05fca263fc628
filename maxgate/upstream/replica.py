"""One MAX server: its address and what is known of it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, cast

import httpx

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.errors import error_answer, map_httpx_error
from maxgate.upstream.http1.messages import EngineRequest, resolve_address
from maxgate.upstream.settings import UpstreamSettings

ReplicaState = Literal["unknown", "healthy", "unreachable"]


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model as an engine lists it; `context_length` is None where it does not say."""

    name: str
    created: int
    context_length: int | None


class Replica:
    """What requests and probes have learned about one engine.

    `models` is what it listed last, also while it is away: it is expected to come back with them.
    `capabilities` is what was found out about each of them. `in_flight` counts the requests that it
    has not answered to the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.state: ReplicaState = "unknown"
        self.models: Mapping[str, EngineModel] = {}
        self.error: str | None = None
        self.in_flight = 0
        self.capabilities: dict[str, Capabilities] = {}

    def mark_healthy(self, models: Mapping[str, EngineModel]) -> None:
        """It has listed its models."""
        self.state, self.models, self.error = "healthy", models, None

    def mark_unreachable(self, error: str) -> None:
        """A connection to it failed."""
        self.state, self.error = "unreachable", error


class EngineCall(NamedTuple):
    """What is sent to an engine, whichever it is; `stream` says how its answer is waited for."""

    model: str
    path: str
    body: bytes
    stream: bool = False


async def ask(
    replica: Replica,
    transport: httpx.AsyncBaseTransport,
    call: EngineCall,
    settings: UpstreamSettings,
) -> "EngineAnswer":
    """Send the call; the answer has begun when this returns, and has to be closed.

    Raises EngineUnreachable where nothing came back, and what the engine's error answer means.
    """
    silence = settings.first_token_timeout if call.stream else settings.response_timeout
    limits = {"connect": settings.connect_timeout, "read": silence}
    message = EngineRequest(resolve_address(replica.url, call.path), call.body, limits)
    replica.in_flight += 1
    try:
        response = await transport.handle_async_request(message)
    except httpx.HTTPError as error:
        replica.in_flight -= 1
        raise map_httpx_error(error, answering=False) from error
    except BaseException:
        replica.in_flight -= 1
        raise
    answer = EngineAnswer(replica, response)
    if response.status_code != 200:
        async with answer:
            raise error_answer(response.status_code, await answer.content())
    # The transport looks at the limit anew with every read.
    limits["read"] = settings.idle_timeout if call.stream else silence
    return answer


class EngineAnswer:
    """Iterating gives the bytes as they arrive; an engine is in use until `async with` ends.

    That raises UpstreamError where the answer is cut off, UpstreamTimeout where the engine is
    silent. The connection is closed unless the answer was read to its end.
    """

    def __init__(self, replica: Replica, response: httpx.Response) -> None:
        self._endpoint = replica
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._received = aiter(self._stream)

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._received

    async def content(self) -> bytes:
        """The whole body."""
        return b"".join([data async for data in self._received])

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._endpoint.in_flight -= 1
        closing: Any = getattr(self._received, "aclose", None)
        if closing is not None:
            await closing()
        await self._stream.aclose()
        if isinstance(error, httpx.HTTPError):
            raise map_httpx_error(error, answering=True) from error
