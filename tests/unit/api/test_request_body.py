"""Request bodies are read and validated within limits of size, structure and time."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.api.request_body import (
    MAX_JSON_CONTAINERS,
    MAX_JSON_VALUES,
    BodyReader,
    ClientDisconnect,
    check_duplicates,
    check_structure,
    structure,
)
from maxgate.api.schemas import RequestBody
from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedMediaType,
)

MAX_BYTES = 20
JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{}:,\n\u2028é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\{:'), inner),
)


class Item(RequestBody):
    """A request body with one field."""

    name: str


async def read(*pieces: bytes | None, headers: list[tuple[bytes, bytes]] | None = None) -> Item:
    """Read a body of at most MAX_BYTES that arrives in these pieces; None is a disconnect."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if piece is None
        else {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    reader = BodyReader(max_bytes=MAX_BYTES, timeout=0.01)
    return await reader.read({"headers": headers or []}, receive, Item)


@pytest.mark.parametrize("pieces", [[b'{"name":"x"}'], [b'{"na', b'me":', b'"x"}']])
async def test_body(pieces: list[bytes]) -> None:
    """A body arrives in one piece or in several."""
    assert await read(*pieces) == Item(name="x")


@pytest.mark.parametrize(
    "content_type",
    [b"application/json", b"Application/JSON; charset=UTF-8", b'application/json;charset="utf-8"'],
)
async def test_content_type(content_type: bytes) -> None:
    """The content type is JSON in UTF-8, in any spelling."""
    headers = [(b"content-type", content_type)]
    assert await read(b'{"name":"x"}', headers=headers) == Item(name="x")


@pytest.mark.parametrize(
    ("pieces", "headers", "error"),
    [
        ([b"x" * (MAX_BYTES + 1)], [], RequestTooLarge),
        ([b"x" * 11, b"x" * 10, b""], [], RequestTooLarge),
        ([b"{}"], [(b"content-length", b"21")], RequestTooLarge),
        ([b"{}"], [(b"content-encoding", b"gzip")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"text/plain")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"application/jsonp")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"application/json;charset=utf-7")], UnsupportedMediaType),
        ([b"{"], [], InvalidRequest),
        ([b""], [(b"upgrade", b"h2c")], InvalidRequest),
        ([b'{"name":1}'], [], InvalidRequest),
    ],
)
async def test_errors(
    pieces: list[bytes], headers: list[tuple[bytes, bytes]], error: type[GatewayError]
) -> None:
    """Bodies that are too large, not JSON or invalid are rejected."""
    with pytest.raises(error):
        await read(*pieces, headers=headers)


async def test_no_body() -> None:
    """The error for a missing body says so."""
    with pytest.raises(InvalidRequest, match="has no body"):
        await read(b"")


async def test_timeout() -> None:
    """RequestTimeout is raised if the body does not arrive in time."""
    with pytest.raises(RequestTimeout):
        await read()


@pytest.mark.parametrize("pieces", [[None], [b"{", None]])
async def test_disconnect(pieces: list[bytes | None]) -> None:
    """ClientDisconnect is raised if the client disconnects before or within the body."""
    with pytest.raises(ClientDisconnect):
        await read(*pieces)


@given(value=JSON, ascii_only=st.booleans())
def test_structure(value: Any, *, ascii_only: bool) -> None:
    """Brackets, colons and commas inside strings are not part of the structure."""
    json_text = json.dumps(value, ensure_ascii=ascii_only)
    assert structure(json_text.encode()) == expected_structure(value).encode()


def expected_structure(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(expected_structure, value))
    if isinstance(value, dict):
        return "{" + ",".join(":" + expected_structure(item) for item in value.values())
    return ""


@pytest.mark.parametrize(
    ("item", "limit"),
    [
        ("[]", MAX_JSON_CONTAINERS - 1),
        ("{}", MAX_JSON_CONTAINERS - 1),
        ('{"a":[]}', (MAX_JSON_CONTAINERS - 1) // 3),
        ("1", MAX_JSON_VALUES),
        ('","', MAX_JSON_VALUES),
        ('"{[:"', MAX_JSON_VALUES),
    ],
)
def test_structure_limits(item: str, limit: int) -> None:
    """An array of `limit` items passes, and one item more raises RequestTooLarge."""
    check_structure(repeat(item, limit))
    with pytest.raises(RequestTooLarge, match="60000 arrays, objects and fields"):
        check_structure(repeat(item, limit + 1))


def repeat(item: str, count: int) -> bytes:
    return f"[{','.join([item] * count)}]".encode()


def test_punctuation_in_strings() -> None:
    """A string with any number of brackets, colons and commas passes."""
    check_structure(json.dumps({"a": '[{:,"\\' * 200_000}).encode())


@given(JSON)
def test_no_duplicates(value: Any) -> None:
    """JSON without duplicate fields passes, also with names that are in several objects."""
    check_duplicates(json.dumps({"a": value, "b": {"a": value}, "c": [value] * 2}).encode())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "a": 1}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"b": [{"c": {}}, {"c": {}, "d": 1, "c": {}}]}', "c"),
        (f'{{"a": {"9" * 5000}, "b": 1e999, "b": NaN}}', "b"),
        ('{"": 1, "": 2}', ""),
        (f'{{"{"x" * 300}": 1, "{"x" * 300}": 2}}', "x" * 200),
    ],
)
def test_duplicates(text: str, name: str) -> None:
    """A field that an object has twice is named, whatever its values are."""
    with pytest.raises(InvalidRequest) as raised:
        check_duplicates(text.encode())
    assert (raised.value.param, raised.value.code) == (name, "duplicate_parameter")
