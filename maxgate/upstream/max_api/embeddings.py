"""MAX's wire format of embeddings.

MAX counts no tokens, does not normalise the mean over the tokens, and takes ids as they are: no
special tokens are added.
"""

import math
from array import array
from collections.abc import Sequence

import orjson

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Vector
from maxgate.generation.request import TokenIds

PATH = "/v1/embeddings"


def body(model: str, prompts: Sequence[TokenIds]) -> bytes:
    """The JSON to send."""
    inputs = b",".join([b"[%b]" % prompt.json for prompt in prompts])
    return orjson.dumps({"model": model, "input": orjson.Fragment(b"[%b]" % inputs)})


def read_answer(data: bytes, *, count: int, dimensions: int) -> tuple[Vector, ...]:
    """The vectors, in the order of the inputs, each of length 1 as OpenAI's are.

    Raises UpstreamError where it is not `count` vectors with `dimensions` numbers each.
    """
    try:
        entries = orjson.loads(data)["data"]
        by_index = {entry["index"]: entry["embedding"] for entry in entries}
        vectors = tuple([_normalised(by_index[index]) for index in range(count)])
    except (ValueError, KeyError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise UpstreamError("The engine's vectors could not be read.") from error
    if len(entries) != count or any(len(vector) != dimensions for vector in vectors):
        raise UpstreamError("The engine's vectors are not the ones that were asked for.")
    return vectors


def _normalised(values: list[float]) -> Vector:
    length = math.hypot(*values)
    if not math.isfinite(length):
        raise ValueError("not a finite vector")
    return array("f", [value / length for value in values])
