"""Reading a request's body, up to a size and within a time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from pydantic import ValidationError

from maxgate.api.errors import invalid_body
from maxgate.api.structure import check_structure
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

    Raises RequestTooLarge above `max_bytes` and as check_structure does, RequestTimeout after
    `timeout` seconds, UnsupportedMediaType for compressed bodies, ClientGone, and InvalidRequest
    for what does not fit the model.
    """

    def __init__(self, *, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def read(self, scope: Scope, receive: Receive, model: type[Body]) -> Body:
        """The body as a `model`."""
        self._check_headers(scope)
        if "maxgate.connection" in scope:  # our own server sees to it that bodies arrive in time
            content = await self._content(receive)
        else:
            content = await self._content_in_time(receive)
        check_structure(content)
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

    async def _content_in_time(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._content(receive)
        except TimeoutError as error:
            raise RequestTimeout("The request did not arrive in time.") from error

    async def _content(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return self._checked(message.get("body", b""))
        pieces: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(pieces)
            message = await receive()

    def _checked(self, content: bytes) -> bytes:
        if len(content) > self._max_bytes:
            raise self._too_large()
        return content

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body of the request is larger than {self._max_bytes} bytes.")
