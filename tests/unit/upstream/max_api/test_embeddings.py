"""Embedding requests in MAX's format, and its responses as normalized vectors."""

import json
import math
from array import array
from typing import Any

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api.embeddings import parse_response, serialize_request


def build_response(*vectors: list[Any]) -> bytes:
    """Return a response with these vectors."""
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return json.dumps({"data": data}).encode()


def test_request() -> None:
    """Prompts are sent as token ids."""
    sent = serialize_request("m", [TokenIds.of([1, 2]), TokenIds.of([3])])
    assert json.loads(sent) == {"model": "m", "input": [[1, 2], [3]]}


def test_normalized() -> None:
    """Vectors are normalized to length 1, also very long ones."""
    read = parse_response(build_response([3.0, 4.0], [0.0, -2.0]), count=2, dimensions=2)
    assert read == (array("f", [0.6, 0.8]), array("f", [0.0, -1.0]))
    [one] = parse_response(build_response([1e30, 1e30]), count=1, dimensions=2)
    assert math.hypot(*one) == pytest.approx(1)


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[]",
        b'{"data": null}',
        build_response([1.0, 2.0]),
        build_response([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]),
        build_response([1.0], [1.0, 2.0]),
        build_response([0.0, 0.0], [1.0, 2.0]),
        build_response([None, 1.0], [1.0, 2.0]),
        build_response(["a", 1.0], [1.0, 2.0]),
        build_response([math.nan, 1.0], [1.0, 2.0]),
        build_response([math.inf, 1.0], [1.0, 2.0]),
    ],
)
def test_invalid_response(data: bytes) -> None:
    """Invalid responses are errors."""
    with pytest.raises(UpstreamError):
        parse_response(data, count=2, dimensions=2)
