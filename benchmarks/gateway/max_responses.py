"""Responses of MAX as bytes, encoded once and cached; their shapes are those of MAX 26.7."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

MODEL = "smollm2-135m-instruct"
CONTEXT_LENGTH = 8192
PROMPT_TOKENS = 37
LAST_HTTP_CHUNK = b"0\r\n\r\n"

Route = Literal["chat", "completions"]
_SENTENCE = "The capital of France is Paris, and the river that runs through it is the Seine."
_TOKENS = [" " + word for word in _SENTENCE.split()]


def _encode_head(content_type: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return (
        f"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n"
    ).encode()


def encode_response(content_type: str, data: Any) -> bytes:
    """Encode a response with a `Content-Length`; `data` becomes JSON unless it is a string."""
    body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return _encode_head(content_type, len(body)) + body


STREAM_HEAD = _encode_head("text/event-stream; charset=utf-8", None)
MODEL_LIST = encode_response(
    "application/json",
    {
        "object": "list",
        "data": [
            {"id": MODEL, "object": "model", "created": 1, "owned_by": "",
             "max_model_len": CONTEXT_LENGTH},
        ],
    },
)  # fmt: skip
PLAIN_OK = encode_response("text/plain", "OK")


@dataclass(frozen=True)
class ResponseOptions:
    """The parts of a request that change the shape of its response."""

    route: Route
    token_ids: bool = False
    usage: bool = False


def _build_usage(tokens: int, prompt_tokens: int) -> dict[str, Any]:
    return {
        "completion_tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + tokens,
        "completion_tokens_details": None,
        "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 5},
    }


@cache
def encode_generation(route: Route, tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> bytes:
    """Encode a response that is not streamed."""
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
    data = {**_build_envelope(kind), "choices": [choice]}
    data["usage"] = _build_usage(tokens, prompt_tokens)
    return encode_response("application/json", data)


def _build_envelope(kind: str) -> dict[str, Any]:
    return {
        "id": "6f1c5a52a4b14d0f8a8e2d1bd6e0c9a7",
        "created": 1760000000,
        "model": MODEL,
        "object": kind,
        "system_fingerprint": None,
        "service_tier": None,
    }


@cache
def _encode_token(options: ResponseOptions, word: int, *, first: bool, last: bool) -> bytes:
    choice: dict[str, Any] = {}
    if options.token_ids:  # before all others, as in MAX
        choice["token_ids"] = [1000 + word]
        if first:
            choice["prompt_token_ids"] = list(range(PROMPT_TOKENS))
    choice["index"] = 0
    if options.route == "chat":
        choice["delta"] = {"content": _TOKENS[word], "refusal": None, "role": "assistant"}
    else:
        choice["text"] = _TOKENS[word]
    choice |= {"logprobs": None, "finish_reason": "stop" if last else None}
    kind = "chat.completion.chunk" if options.route == "chat" else "text_completion"
    return _encode_event({**_build_envelope(kind), "choices": [choice], "usage": None})


def encode_chunk(options: ResponseOptions, number: int, tokens: int) -> bytes:
    """Encode token `number` of a stream as one HTTP chunk; numbers start at 0."""
    last = number == tokens - 1
    return _encode_token(options, number % len(_TOKENS), first=number == 0, last=last)


@cache
def encode_end(options: ResponseOptions, tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> bytes:
    """Encode everything after the last token: the usage if requested, and `[DONE]`."""
    usage = {**_build_envelope("usage"), "choices": []}
    usage["usage"] = _build_usage(tokens, prompt_tokens)
    done = _encode_http_chunk(b"data: [DONE]\n\n") + LAST_HTTP_CHUNK
    return (_encode_event(usage) if options.usage else b"") + done


@cache
def encode_stream(options: ResponseOptions, tokens: int) -> bytes:
    """Encode a complete stream with one HTTP chunk per token."""
    chunks = b"".join(encode_chunk(options, number, tokens) for number in range(tokens))
    return STREAM_HEAD + chunks + encode_end(options, tokens)


def _encode_event(fields: dict[str, Any]) -> bytes:
    data = json.dumps(fields, separators=(",", ":")).encode()
    return _encode_http_chunk(b"data: " + data + b"\n\n")


def _encode_http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
