"""Reading a request's body, up to a size and within a time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from pydantic import ValidationError

from maxgate.api.errors import invalid_body
from maxgate.api.wire import RequestBody
from maxgate.errors import RequestTimeout, RequestTooLarge, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Body = TypeVar("Body", bound=RequestBody)


class ClientGone(Exception):  # an event, not an error of ours
    """The client has closed its connection; nobody is left to be answered."""


class BodyReader:
    """Reads JSON bodies.

    Raises RequestTooLarge above `max_bytes`, RequestTimeout after `timeout` seconds,
    UnsupportedMediaType for compressed bodies, ClientGone, and InvalidRequest for what does not
    fit the model.
    """

    def __init__(self, *, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def read(self, scope: Scope, receive: Receive, model: type[Body]) -> Body:
        """The body as a `model`."""
        self._check_headers(scope)
        content = await self._content(receive)
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise invalid_body(error) from error

    def _check_headers(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-encoding" and value.lower() != b"identity":
                raise UnsupportedMediaType("Compressed request bodies are not read.")
            if name == b"content-length" and int(value) > self._max_bytes:
                raise self._too_large()

    async def _content(self, receive: Receive) -> bytes:
        message = await self._next(receive, self._timeout)
        content: bytes = message.get("body", b"")
        if len(content) > self._max_bytes:
            raise self._too_large()
        if message.get("more_body"):
            return await self._rest(receive, content)
        return content

    async def _rest(self, receive: Receive, first: bytes) -> bytes:
        pieces, size, more = [first], len(first), True
        deadline = asyncio.get_running_loop().time() + self._timeout
        while more:
            message = await self._next(receive, deadline - asyncio.get_running_loop().time())
            more = message.get("more_body", False)
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._max_bytes:
                raise self._too_large()
        return b"".join(pieces)

    @staticmethod
    async def _next(receive: Receive, seconds: float) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError as error:
            raise RequestTimeout("The body of the request did not arrive in time.") from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body of the request is larger than {self._max_bytes} bytes.")
