"""Reading a request's body, up to a size and within a time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from maxgate.api.errors import invalid_body
from maxgate.api.schemas import RequestBody
from maxgate.errors import RequestTimeout, RequestTooLarge, UnsupportedMediaType

MAX_JSON_CONTAINERS: Final = 60_000
"""Arrays, objects and fields of objects together."""
MAX_JSON_VALUES: Final = 1_000_000
_SMALLEST: Final = 2 * MAX_JSON_CONTAINERS  # `[]` has two bytes, and nothing else has fewer
_ALL: Final = bytes(range(256))
_TEXT: Final = _ALL.translate(None, b"[{:,")
_TEXT_IN_QUOTES: Final = _ALL.translate(None, b'"[{:,')


def check_structure(json: bytes) -> None:
    """Bound the number of arrays, objects, fields and values.

    Raises RequestTooLarge above MAX_JSON_CONTAINERS or MAX_JSON_VALUES. String contents do not
    count. Bodies too short to exceed the limits are not scanned.
    """
    if len(json) <= _SMALLEST or _fits(json.translate(None, _TEXT)):
        return
    if not _fits(structure(json)):
        raise RequestTooLarge(
            f"The request body has more than {MAX_JSON_CONTAINERS} arrays, objects and fields, "
            f"or more than {MAX_JSON_VALUES} values. Split it into smaller requests."
        )


def structure(json: bytes) -> bytes:
    """The opening brackets, colons and commas that are not in strings, in order."""
    # Pairs of backslashes go first: the quote in \\" ends its string, the one in \" does not.
    unescaped = json.replace(rb"\\", b"").replace(rb"\"", b"")
    return b"".join(unescaped.translate(None, _TEXT_IN_QUOTES).split(b'"')[::2])


def _fits(marks: bytes) -> bool:
    commas = marks.count(b",")
    return len(marks) - commas <= MAX_JSON_CONTAINERS and commas < MAX_JSON_VALUES


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Body = TypeVar("Body", bound=RequestBody)


_JSON: Final = b"application/json"
_UTF_8: Final = {b"utf-8", b"utf8"}


class ClientDisconnect(Exception):  # an event, not an error of ours
    """The client has closed its connection; nobody is left to be answered."""


class BodyReader:
    """Reads and validates JSON request bodies.

    Raises RequestTooLarge above `max_bytes` and from check_structure, RequestTimeout after
    `timeout` seconds, UnsupportedMediaType for compressed or non-JSON bodies, InvalidRequest for
    bodies that fail validation, and ClientDisconnect.
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
            if name == b"content-type" and value != _JSON and not _is_json(value):
                raise UnsupportedMediaType("The body of a request has to be application/json.")
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
                raise ClientDisconnect
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


def _is_json(content_type: bytes) -> bool:
    # Pages of other sites may send text/plain and forms without asking; of JSON they have to ask.
    kind, *parameters = content_type.lower().split(b";", 8)
    names = [p.partition(b"=")[2].strip(b' "') for p in parameters if b"charset" in p]
    return kind.strip() == _JSON and all(name in _UTF_8 for name in names)
