"""MAX's embeddings: what is sent, and answers that are none."""

import json
import math
from array import array
from typing import Any

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api import embeddings as embedding_wire


def answer(*vectors: list[Any]) -> bytes:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return json.dumps({"data": data}).encode()


def test_prompts_are_sent_as_ids() -> None:
    sent = embedding_wire.serialize_request("m", [TokenIds.of([1, 2]), TokenIds.of([3])])
    assert json.loads(sent) == {"model": "m", "input": [[1, 2], [3]]}


def test_vectors_have_length_one() -> None:
    read = embedding_wire.parse_response(answer([3.0, 4.0], [0.0, -2.0]), count=2, dimensions=2)
    assert read == (array("f", [0.6, 0.8]), array("f", [0.0, -1.0]))
    [one] = embedding_wire.parse_response(answer([1e30, 1e30]), count=1, dimensions=2)
    assert math.hypot(*one) == pytest.approx(1)


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[]",
        b'{"data": null}',
        answer([1.0, 2.0]),
        answer([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]),
        answer([1.0], [1.0, 2.0]),
        answer([0.0, 0.0], [1.0, 2.0]),
        answer([None, 1.0], [1.0, 2.0]),
        answer(["a", 1.0], [1.0, 2.0]),
        answer([math.nan, 1.0], [1.0, 2.0]),
        answer([math.inf, 1.0], [1.0, 2.0]),
    ],
)
def test_what_is_no_answer_is_never_passed_on(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        embedding_wire.parse_response(data, count=2, dimensions=2)
