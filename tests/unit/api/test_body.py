"""Bodies are read up to a size and within a time, and strictly."""

import asyncio
from typing import Any

import pytest

from maxgate.api.request_body import BodyReader, ClientDisconnect
from maxgate.api.schemas import RequestBody
from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedMediaType,
)


class Thing(RequestBody):
    """A body."""

    name: str


async def read(*pieces: bytes | None, headers: list[tuple[bytes, bytes]] | None = None) -> Thing:
    """What a reader of at most 20 bytes makes of the pieces; None is the client's leaving."""
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

    reader = BodyReader(max_bytes=20, timeout=0.01)
    return await reader.read({"headers": headers or []}, receive, Thing)


async def test_a_body_may_come_in_pieces() -> None:
    assert await read(b'{"na', b'me":', b'"x"}') == Thing(name="x")
    assert await read(b'{"name":"x"}') == Thing(name="x")


@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"Application/JSON; charset=UTF-8", b'application/json;charset="utf-8"'],
)
async def test_json_is_called_json(kind: bytes) -> None:
    assert await read(b'{"name":"x"}', headers=[(b"content-type", kind)]) == Thing(name="x")


@pytest.mark.parametrize(
    ("pieces", "headers", "error"),
    [
        ([b"x" * 21], [], RequestTooLarge),
        ([b"x" * 11, b"x" * 10, b""], [], RequestTooLarge),
        ([b"{}"], [(b"content-length", b"21")], RequestTooLarge),
        ([b"{}"], [(b"content-encoding", b"gzip")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"text/plain")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"application/jsonp")], UnsupportedMediaType),
        ([b"{}"], [(b"content-type", b"application/json;charset=utf-7")], UnsupportedMediaType),
        ([b"{"], [], InvalidRequest),
        ([b'{"name":1}'], [], InvalidRequest),
    ],
)
async def test_what_is_refused(
    pieces: list[bytes], headers: list[tuple[bytes, bytes]], error: type[GatewayError]
) -> None:
    with pytest.raises(error):
        await read(*pieces, headers=headers)


async def test_a_body_that_does_not_come() -> None:
    with pytest.raises(RequestTimeout):
        await read()


@pytest.mark.parametrize("pieces", [[None], [b"{", None]])
async def test_a_client_that_leaves_while_sending(pieces: list[bytes | None]) -> None:
    with pytest.raises(ClientDisconnect):
        await read(*pieces)
