"""Successive chunks are parsed by what differs between them, with the same result."""

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.generation.chunk import Chunk
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api.chunk_frame import ChunkFrame
from maxgate.upstream.max_api.generation import ChunkReader, select_path, serialize_request
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax
from tests.fakes.requests import generation_request

TEXTS = st.text() | st.sampled_from(
    ["", '"', '\\"text":', '"text":"a"', '"token_ids":[1]', "\\", "é", "\u2028", "}]}"]
)
IDS = st.none() | st.lists(st.integers(0, 200_000), min_size=1, max_size=3)
CHUNKS = st.fixed_dictionaries(
    {"id": st.just("a"), "created": st.integers(1, 2)},
    optional={"object": TEXTS, "usage": st.none(), "text": TEXTS},
)


def build_chunk(rest: dict[str, Any], text: str, ids: list[int] | None, *, first: bool) -> bytes:
    """Return a chunk whose choices come before or after the other fields."""
    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": None}
    if ids is not None:  # in the order of MAX
        choice = {"token_ids": ids, **choice}
    fields = {"choices": [choice], **rest} if first else {**rest, "choices": [choice]}
    return orjson.dumps(fields)


@given(st.lists(st.tuples(CHUNKS, TEXTS, IDS, st.booleans())))
def test_successive_chunks(
    sent: list[tuple[dict[str, Any], str, list[int] | None, bool]],
) -> None:
    """Chunks parsed with the previous frame give the same text as chunks parsed whole."""
    reader = ChunkReader(generation_request(stream=True))
    chunks = [
        reader.parse_event(build_chunk(rest, text, ids, first=first))
        for rest, text, ids, first in sent
    ]
    assert [replace(chunk, usage=None) for chunk in chunks] == [Chunk(sent[1]) for sent in sent]
    tokens = sum(1 if ids is None else len(ids) for _, _, ids, _ in sent)
    assert reader.usage_so_far.completion == tokens


@given(st.text(min_size=1), TEXTS)
def test_text(last: str, text: str) -> None:
    """The next text is found in the frame of the previous chunk."""
    frame = ChunkFrame.from_chunk(last, None, build_chunk({"id": "a"}, last, None, first=False))
    assert frame is not None
    following = build_chunk({"id": "a"}, text, None, first=False)
    assert frame.extract(following) == (text, b"", 1)


@given(
    st.text(min_size=1),
    st.lists(st.integers(0, 200_000), min_size=1, max_size=3),
    TEXTS,
    st.lists(st.integers(0, 200_000), min_size=1, max_size=3),
)
def test_ids(last: str, last_ids: list[int], text: str, ids: list[int]) -> None:
    """The next ids are found beside the next text."""
    chunk = build_chunk({"id": "a"}, last, last_ids, first=False)
    frame = ChunkFrame.from_chunk(last, last_ids, chunk)
    assert frame is not None
    following = build_chunk({"id": "a"}, text, ids, first=False)
    assert frame.extract(following) == (text, TokenIds.of(ids).json, len(ids))


@pytest.mark.parametrize("with_ids", [False, True])
async def test_frames_of_fake_max(*, with_ids: bool) -> None:
    """All text between the first two chunks and the last of the fake MAX takes the fast path."""
    request = generation_request(stream=True, prompt=TokenIds.of([1, 2]))
    transport = httpx.ASGITransport(FakeMax())
    body = serialize_request(request, with_ids=with_ids)
    async with httpx.AsyncClient(transport=transport, base_url="http://max") as client:
        response = await client.post(select_path(request), content=body)
    events = [event.removeprefix(b"data: ") for event in response.content.split(b"\n\n")]
    ids = [1001] if with_ids else None
    frame = ChunkFrame.from_chunk(OUTPUT_TOKENS[1], ids, events[1])
    assert frame is not None
    found = [frame.extract(event) for event in events[2 : len(OUTPUT_TOKENS) - 1]]
    assert found == [
        (text, b"%d" % (1002 + number) if with_ids else b"", 1)
        for number, text in enumerate(OUTPUT_TOKENS[2:-1])
    ]


FRAME = ChunkFrame(b'{"text":', b"", b',"id":1}')
FRAME_WITH_IDS = ChunkFrame(b'{"token_ids":[', b'],"text":', b',"id":1}')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"text":"a","id":2}',
        b'{"text":1,"id":1}',
        b'{"text":null,"id":1}',
        b'{"text":"a","id":0,"id":1}',
        b'{"text":"a","text":"b","id":1}',
        b'{"text":,"id":1}',
        b'{"text":"a,"id":1}',
        b'{"text":',
    ],
)
def test_other_frame(data: bytes) -> None:
    """A chunk with another frame is not taken apart."""
    assert FRAME.extract(data) is None
    assert FRAME_WITH_IDS.extract(data.replace(b"{", b'{"token_ids":[1],')) is None


@pytest.mark.parametrize("ids", [b"", b"null", b"-1", b"1.5", b'"1"', b"[1]", b"1],[2"])
def test_ids_that_are_no_numbers(ids: bytes) -> None:
    """Ids that are not natural numbers are left to the parser of whole chunks."""
    data = b'{"token_ids":[%b],"text":"a","id":1}'
    assert FRAME_WITH_IDS.extract(data % b"7,8") == ("a", b"7,8", 2)
    assert FRAME_WITH_IDS.extract(data % ids) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"text":"a","text":"a"}',
        b'{"text":"a","x":{"text":"b"}}',
        b'{"x":{"text":"b"},"text":"a"}',
        b'{"text" :"a"}',
        b'{"tex\\u0074":"a"}',
        b'{"text":"\\u0061"}',
    ],
)
def test_ambiguous_frame(data: bytes) -> None:
    """A chunk whose text cannot be located reliably has no frame."""
    assert ChunkFrame.from_chunk("a", None, data) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"text":"a","token_ids":[1]}',
        b'{"token_ids":[1],"x":{"token_ids":[1]},"text":"a"}',
        b'{"token_ids":[2],"text":"a"}',
        b'{"token_ids":[1, 2],"text":"a"}',
    ],
)
def test_ambiguous_ids(data: bytes) -> None:
    """A chunk whose ids cannot be located reliably has no frame."""
    assert ChunkFrame.from_chunk("a", [1], data) is None
