"""MAX's format of embedding requests and responses.

MAX counts no tokens, does not normalize the mean over the tokens, and uses ids unchanged, without
adding special tokens.
"""

import math
from array import array
from collections.abc import Sequence

import orjson

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Vector
from maxgate.generation.request import TokenIds

PATH = "/v1/embeddings"


def serialize_request(model: str, prompts: Sequence[TokenIds]) -> bytes:
    """Return the JSON body for these prompts."""
    inputs = b",".join([b"[%b]" % prompt.json for prompt in prompts])
    return orjson.dumps({"model": model, "input": orjson.Fragment(b"[%b]" % inputs)})


def parse_response(data: bytes, *, count: int, dimensions: int) -> tuple[Vector, ...]:
    """Return the vectors in the order of the inputs, normalized to length 1 like OpenAI's.

    Raises UpstreamError unless there are `count` vectors with `dimensions` numbers each.
    """
    try:
        entries = orjson.loads(data)["data"]
        by_index = {entry["index"]: entry["embedding"] for entry in entries}
        vectors = tuple([_normalize(by_index[index]) for index in range(count)])
    except (ValueError, KeyError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise UpstreamError("The engine's embeddings are invalid.") from error
    if len(entries) != count or any(len(vector) != dimensions for vector in vectors):
        raise UpstreamError("The engine returned embeddings of the wrong number or dimensions.")
    return vectors


def _normalize(values: list[float]) -> Vector:
    length = math.hypot(*values)
    if not math.isfinite(length):
        raise ValueError("not a finite vector")
    return array("f", [value / length for value in values])
