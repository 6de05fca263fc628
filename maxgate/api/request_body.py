"""Read and validate JSON request bodies, within limits of size, structure and time."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope
from typing_extensions import override

from maxgate.api.connection import EXTENSION
from maxgate.api.disconnect import ClientDisconnect
from maxgate.api.errors import describe_validation_error, duplicate_parameter
from maxgate.api.schemas import RequestBody
from maxgate.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

Body = TypeVar("Body", bound=RequestBody)

MAX_JSON_CONTAINERS: Final = 60_000
"""Arrays, objects and object fields together."""
MAX_JSON_VALUES: Final = 1_000_000

_JSON: Final = b"application/json"
_UTF_8: Final = {b"utf-8", b"utf8"}
_MIN_SCANNED: Final = 2 * MAX_JSON_CONTAINERS  # `[]` has two bytes; no container is shorter
_ALL_BYTES: Final = bytes(range(256))
_TEXT: Final = _ALL_BYTES.translate(None, b"[{:,")
_TEXT_OR_QUOTES: Final = _ALL_BYTES.translate(None, b'"[{:,')


class BodyReader:
    """Reads and validates JSON request bodies.

    Raises RequestTooLarge above `max_bytes` and from check_structure, RequestTimeout after
    `timeout` seconds, UnsupportedMediaType for compressed or non-JSON bodies, InvalidRequest for
    bodies that fail validation, and ClientDisconnect.
    """

    def __init__(self, *, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def read(
        self,
        scope: Scope,
        receive: Receive,
        model: type[Body],
        *,
        is_optional: bool = False,
        refuses_duplicates: bool = False,
    ) -> Body:
        """Return the body as an instance of `model`.

        A body that `is_optional` may be empty, like an object without fields. Of duplicate fields,
        the last one counts, unless the route `refuses_duplicates`.
        """
        self._check_headers(scope)
        if EXTENSION in scope.get("extensions", ()):  # that server enforces the timeout
            content = await self._receive_all(receive)
        else:
            try:
                async with asyncio.timeout(self._timeout):
                    content = await self._receive_all(receive)
            except TimeoutError as error:
                raise RequestTimeout(
                    f"The request body did not arrive within {self._timeout:g} seconds."
                ) from error
        if len(content) > _MIN_SCANNED:
            check_structure(content)
        if is_optional and not content:
            content = b"{}"
        body = _validate(content, model, scope)
        if refuses_duplicates:
            check_duplicates(content)
        return body

    def _check_headers(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-type" and value != _JSON and not _is_json(value):
                raise UnsupportedMediaType("Content-Type must be application/json in UTF-8.")
            if name == b"content-encoding" and value.lower() != b"identity":
                raise UnsupportedMediaType(
                    "Compressed request bodies are not supported; remove Content-Encoding."
                )
            if name == b"content-length" and int(value) > self._max_bytes:
                raise self._too_large()

    async def _receive_all(self, receive: Receive) -> bytes:
        message = await receive()
        pieces: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join([*pieces, piece]) if pieces else piece
            pieces.append(piece)
            message = await receive()

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request body is larger than {self._max_bytes} bytes.")


class BodyRoute(APIRoute):
    """A route of FastAPI whose body is read and validated by the application's BodyReader.

    FastAPI itself has no limits, and its JSON parser accepts NaN and lone surrogates. A body with
    a default may be empty, and duplicate fields are refused.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        field = self.body_field.field_info
        model: type[RequestBody] = field.annotation  # type: ignore[assignment]
        is_optional = not field.is_required()

        async def read_and_handle(request: Request) -> Response:
            reader: BodyReader = request.app.state.bodies
            body = await reader.read(
                request.scope,
                request.receive,
                model,
                is_optional=is_optional,
                refuses_duplicates=True,
            )
            content = body.model_dump_json(exclude_unset=True).encode()
            if is_optional and "content-type" not in request.headers:  # FastAPI needs one
                request.scope["headers"] = [*request.scope["headers"], (b"content-type", _JSON)]

            async def receive() -> Message:
                return {"type": "http.request", "body": content}

            return await handle(Request(request.scope, receive))

        return read_and_handle


def check_duplicates(content: bytes) -> None:
    """Raise InvalidRequest for a field that an object of a JSON text has twice."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise duplicate_parameter(name)
            names.add(name)

    # Numbers are not needed, and Python refuses to convert long ones.
    json.loads(content, object_pairs_hook=check, parse_int=len, parse_float=len)


def check_structure(text: bytes) -> None:
    """Bound the number of arrays, objects, fields and values in a JSON text.

    A parser's time and memory grow with the number of values, not bytes: `[[],[],[]` costs a
    hundred times as much as a string of the same size. String contents do not count.

    Raises RequestTooLarge above MAX_JSON_CONTAINERS or MAX_JSON_VALUES.
    """
    if not (_is_within_limits(text.translate(None, _TEXT)) or _is_within_limits(structure(text))):
        raise RequestTooLarge(
            f"The request body has more than {MAX_JSON_CONTAINERS} arrays, objects and fields, "
            f"or more than {MAX_JSON_VALUES} values. Split it into smaller requests."
        )


def structure(text: bytes) -> bytes:
    """Return the opening brackets, colons and commas outside of strings, in order."""
    # Remove pairs of backslashes first: the quote in \\" ends its string, the one in \" does not.
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return b"".join(unescaped.translate(None, _TEXT_OR_QUOTES).split(b'"')[::2])


def _is_within_limits(marks: bytes) -> bool:
    commas = marks.count(b",")
    return len(marks) - commas <= MAX_JSON_CONTAINERS and commas < MAX_JSON_VALUES


def _is_json(content_type: bytes) -> bool:
    # Other sites may send text/plain and forms without a CORS preflight, but not JSON.
    kind, *parameters = content_type.lower().split(b";", 8)
    charsets = [p.partition(b"=")[2].strip(b' "') for p in parameters if b"charset" in p]
    return kind.strip() == _JSON and all(charset in _UTF_8 for charset in charsets)


def _validate(content: bytes, model: type[Body], scope: Scope) -> Body:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        if not content and any(name == b"upgrade" for name, _ in scope["headers"]):
            raise InvalidRequest(
                "The server has dropped the request body because of the Upgrade header. Remove "
                "the header (with the JDK: HttpClient.Version.HTTP_1_1), or run the gateway "
                "with `maxgate serve`, which ignores it."
            ) from error
        if not content:
            raise InvalidRequest("The request has no body. Send a JSON object.") from error
        details = error.errors(include_url=False, include_context=True, include_input=True)
        raise describe_validation_error(details) from error
