"""Chunks read by what changed since the last one say the same as chunks read whole."""

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.generation.chunk import Chunk
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api import generation as engine_wire
from maxgate.upstream.max_api.generation import ChunkFrame, ChunkReader
from tests.fakes.max_server import ANSWER, FakeMax
from tests.fakes.requests import generation_request

TEXTS = st.text() | st.sampled_from(
    ["", '"', '\\"text":', '"text":"a"', "\\", "é", "\u2028", "}]}"]
)
CHUNKS = st.fixed_dictionaries(
    {"id": st.just("a"), "created": st.integers(1, 2)},
    optional={"object": TEXTS, "usage": st.none(), "text": TEXTS},
)


def chunk(around: dict[str, Any], text: str, *, first: bool) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": None}
    fields = {"choices": [choice], **around} if first else {**around, "choices": [choice]}
    return orjson.dumps(fields)


@given(st.lists(st.tuples(CHUNKS, TEXTS, st.booleans())))
def test_one_after_the_other_they_are_read_as_each_by_itself(
    sent: list[tuple[dict[str, Any], str, bool]],
) -> None:
    reader = ChunkReader(generation_request(stream=True))
    read = [reader.parse_event(chunk(around, text, first=first)) for around, text, first in sent]
    assert [replace(one, usage=None) for one in read] == [Chunk(text) for _, text, _ in sent]
    assert reader.usage_so_far.completion == len(sent)


@given(st.text(min_size=1), TEXTS)
def test_the_next_text_is_found_in_the_frame_of_the_last_one(last: str, text: str) -> None:
    frame = ChunkFrame.from_chunk(last, chunk({"id": "a"}, last, first=False))
    assert frame is not None
    assert frame.extract_text(chunk({"id": "a"}, text, first=False)) == text


async def test_the_fake_max_is_read_through_frames() -> None:
    """All text between the first and the last chunk of the fake MAX takes the fast path."""
    asked = generation_request(stream=True, prompt=TokenIds.of([1, 2]))
    transport = httpx.ASGITransport(FakeMax())
    async with httpx.AsyncClient(transport=transport, base_url="http://max") as client:
        response = await client.post(engine_wire.select_path(asked), content=engine_wire.serialize_request(asked))
    first, *others = [event.removeprefix(b"data: ") for event in response.content.split(b"\n\n")]
    frame = ChunkFrame.from_chunk(ANSWER[0], first)
    assert frame is not None
    texts = [frame.extract_text(event) for event in others]
    assert texts[: len(ANSWER) - 2] == list(ANSWER[1:-1])


FRAME = ChunkFrame(b'{"text":', b',"id":1}')


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
def test_what_has_another_frame_has_no_text(data: bytes) -> None:
    assert FRAME.extract_text(data) is None


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
def test_a_text_that_cannot_be_told_from_the_rest_makes_no_frame(data: bytes) -> None:
    assert ChunkFrame.from_chunk("a", data) is None
