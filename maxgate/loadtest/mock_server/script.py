"""What the scripted server does with each request; a script becomes packets with their times."""

from dataclasses import dataclass
from random import Random
from typing import Literal

import orjson
from pydantic import BaseModel

Packing = Literal["one", "two_in_a_packet", "split"]


class Script(BaseModel):
    """Seconds and counts."""

    first: float = 0.05
    """From the request to the first output."""
    chunks: int = 100
    gap: float = 0.01
    tokens_per_chunk: int = 1
    stall_before: int | None = None
    """The chunk that comes late."""
    stall: float = 0.5
    role_after: float | None = None
    """Seconds until a chunk without output, as eager gateways send it."""
    packing: Packing = "one"
    refuse: float = 0.0
    """The share of requests that is answered with 503 at once."""
    freeze_after: float | None = None
    """Seconds after the first request when the whole server stands still."""
    freeze: float = 2.0
    usage: bool = True

    def refuses(self, index: int) -> bool:
        """Whether this request is one of those; the same ones in every run."""
        return Random(f"refuse/{index}").random() < self.refuse  # noqa: S311

    def output_times(self) -> list[float]:
        """Seconds from the request to each chunk."""
        late = self.stall_before if self.stall_before is not None else self.chunks
        return [
            self.first + self.gap * k + (self.stall if k >= late else 0.0)
            for k in range(self.chunks)
        ]


@dataclass(frozen=True)
class Packet:
    """Bytes that go out together, so long after the request; `outputs` chunks end in them."""

    after: float
    data: bytes
    outputs: int


HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: scripted\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def refusal() -> bytes:
    """A 503 in OpenAI's shape."""
    body = b'{"error":{"message":"no room","type":"server_error","param":null,"code":null}}'
    return _whole(b"503 Service Unavailable", body)


def whole_answer(script: Script) -> bytes:
    """The answer to a request that does not stream."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "word " * script.chunks},
    }
    body = orjson.dumps({"id": "c", "choices": [choice], "usage": _usage(script)})
    return _whole(b"200 OK", body)


def models() -> bytes:
    """The answer to GET /v1/models."""
    body = b'{"object":"list","data":[{"id":"scripted","object":"model","created":1}]}'
    return _whole(b"200 OK", body)


def packets(script: Script) -> list[Packet]:
    """The stream, as it goes out."""
    times = script.output_times()
    events = [_event(script, k, last=k == script.chunks - 1) for k in range(script.chunks)]
    found = _packed(script, times, events)
    if script.role_after is not None:
        role = _chunked(_delta({"role": "assistant", "content": ""}, None))
        found.insert(0, Packet(script.role_after, role, 0))
    end = b"data: [DONE]\n\n"
    if script.usage:
        end = b"data: " + orjson.dumps({"choices": [], "usage": _usage(script)}) + b"\n\n" + end
    last = found[-1]
    found[-1] = Packet(last.after, last.data + _chunked(end) + b"0\r\n\r\n", last.outputs)
    found[0] = Packet(found[0].after, HEAD + found[0].data, found[0].outputs)
    return found


def _packed(script: Script, times: list[float], events: list[bytes]) -> list[Packet]:
    if script.packing == "two_in_a_packet":
        return [
            Packet(times[min(k + 1, len(times) - 1)], _chunked(b"".join(pair)), len(pair))
            for k in range(0, len(events), 2)
            for pair in [events[k : k + 2]]
        ]
    if script.packing == "split":
        halves = []
        for at, event in zip(times, events, strict=True):
            middle = len(event) // 2
            halves.append(Packet(at - script.gap / 2, _chunked(event[:middle]), 0))
            halves.append(Packet(at, _chunked(event[middle:]), 1))
        return halves
    return [Packet(at, _chunked(e), 1) for at, e in zip(times, events, strict=True)]


def _event(script: Script, number: int, *, last: bool) -> bytes:
    text = " word" * script.tokens_per_chunk
    return _delta({"content": text}, "stop" if last else None, number)


def _delta(delta: dict[str, str], reason: str | None, number: int = 0) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    message = {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(message) + b"\n\n"


def _usage(script: Script) -> dict[str, int]:
    completion = script.chunks * script.tokens_per_chunk
    return {
        "prompt_tokens": 10,
        "completion_tokens": completion,
        "total_tokens": 10 + completion,
    }


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nserver: scripted\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
    )
