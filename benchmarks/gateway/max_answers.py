"""MAX's answers as bytes, made once: the shapes are those of a live MAX 26.7."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

MODEL = "smollm2-135m-instruct"
CONTEXT_LENGTH = 8192
LAST_PIECE = b"0\r\n\r\n"

Route = Literal["chat", "completions"]
_SENTENCE = "The capital of France is Paris, and the river that runs through it is the Seine."
_TOKENS = [" " + word for word in _SENTENCE.split()]


def _head(kind: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return (
        f"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()
    )


def answer(kind: str, data: Any) -> bytes:
    """An answer with a length; `data` becomes JSON unless it is text."""
    body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return _head(kind, len(body)) + body


STREAM_HEAD = _head("text/event-stream; charset=utf-8", None)
MODEL_LIST = answer(
    "application/json",
    {
        "object": "list",
        "data": [
            {"id": MODEL, "object": "model", "created": 1, "owned_by": "",
             "max_model_len": CONTEXT_LENGTH},
        ],
    },
)  # fmt: skip
PLAIN_OK = answer("text/plain", "OK")


@dataclass(frozen=True)
class Asked:
    """What of a request changes the answer's shape."""

    route: Route
    token_ids: bool = False
    usage: bool = False


def _usage(tokens: int) -> dict[str, Any]:
    return {
        "completion_tokens": tokens,
        "prompt_tokens": 37,
        "total_tokens": 37 + tokens,
        "completion_tokens_details": None,
        "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 5},
    }


@cache
def whole(route: Route, tokens: int) -> bytes:
    """An answer that is not streamed."""
    text = "".join(_TOKENS[number % len(_TOKENS)] for number in range(tokens))
    choice: dict[str, Any] = {"finish_reason": "stop", "index": 0, "logprobs": None}
    if route == "chat":
        choice["message"] = {
            "content": text,
            "refusal": "",
            "role": "assistant",
            "tool_calls": None,
        }
    else:
        choice["text"] = text
    kind = "chat.completion" if route == "chat" else "text_completion"
    return answer(
        "application/json", {**_envelope(kind), "choices": [choice], "usage": _usage(tokens)}
    )


def _envelope(kind: str) -> dict[str, Any]:
    return {
        "id": "6f1c5a52a4b14d0f8a8e2d1bd6e0c9a7",
        "created": 1760000000,
        "model": MODEL,
        "object": kind,
        "system_fingerprint": None,
        "service_tier": None,
    }


@cache
def _chunk(asked: Asked, word: int, *, first: bool, last: bool) -> bytes:
    choice: dict[str, Any] = {
        "finish_reason": "stop" if last else None,
        "index": 0,
        "logprobs": None,
    }
    if asked.route == "chat":
        choice["delta"] = {"content": _TOKENS[word], "refusal": None, "role": "assistant"}
    else:
        choice["text"] = _TOKENS[word]
    if asked.token_ids:
        choice["token_ids"] = [1000 + word]
        if first:
            choice["prompt_token_ids"] = list(range(37))
    kind = "chat.completion.chunk" if asked.route == "chat" else "text_completion"
    return _event({**_envelope(kind), "choices": [choice], "usage": None})


def chunk(asked: Asked, number: int, tokens: int) -> bytes:
    """The `number`-th token of a stream as one piece of a chunked body."""
    last = number == tokens - 1
    return _chunk(asked, number % len(_TOKENS), first=number == 0, last=last)


@cache
def ending(asked: Asked, tokens: int) -> bytes:
    """What comes after the last token."""
    counted = _event({**_envelope("usage"), "choices": [], "usage": _usage(tokens)})
    return (counted if asked.usage else b"") + _piece(b"data: [DONE]\n\n") + LAST_PIECE


@cache
def stream(asked: Asked, tokens: int) -> bytes:
    """A whole stream, every token a piece of its own."""
    pieces = b"".join(chunk(asked, number, tokens) for number in range(tokens))
    return STREAM_HEAD + pieces + ending(asked, tokens)


def _event(fields: dict[str, Any]) -> bytes:
    return _piece(b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n")


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
