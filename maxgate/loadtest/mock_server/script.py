"""The script of the mock server, and the timed packets that it turns into."""

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import orjson
from pydantic import BaseModel

Packing = Literal["one", "two_in_a_packet", "split"]


class Script(BaseModel):
    """The response to every request; times in seconds."""

    first: float = 0.05
    """Time from the request to the first output."""
    chunks: int = 100
    gap: float = 0.01
    tokens_per_chunk: int = 1
    stall_before: int | None = None
    """Index of the first chunk that is delayed by `stall`."""
    stall: float = 0.5
    role_after: float | None = None
    """Time to a role chunk without output, which some gateways send at once."""
    packing: Packing = "one"
    refuse: float = 0.0
    """Share of requests that get a 503 at once."""
    freeze_after: float | None = None
    """Time from the first request to a freeze of the whole server."""
    freeze: float = 2.0
    usage: bool = True

    def refuses(self, index: int) -> bool:
        """Whether the request with this index gets a 503; the same in every run."""
        return Random(f"refuse/{index}").random() < self.refuse  # noqa: S311

    def output_times(self) -> list[float]:
        """Time from the request to each chunk."""
        stalled = self.stall_before if self.stall_before is not None else self.chunks
        return [
            self.first + self.gap * k + (self.stall if k >= stalled else 0.0)
            for k in range(self.chunks)
        ]


@dataclass(frozen=True)
class Packet:
    """Bytes sent together, `after` seconds after the request; they complete `outputs` chunks."""

    after: float
    data: bytes
    outputs: int


_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: scripted\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def build_refusal() -> bytes:
    """A 503 response with an OpenAI error."""
    body = b'{"error":{"message":"no room","type":"server_error","param":null,"code":null}}'
    return _build_response(b"503 Service Unavailable", body)


def build_whole_response(script: Script) -> bytes:
    """The response to a request without streaming."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "word " * script.chunks},
    }
    body = orjson.dumps({"id": "c", "choices": [choice], "usage": _usage(script)})
    return _build_response(b"200 OK", body)


def _build_response(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nserver: scripted\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
    )


def build_packets(script: Script) -> list[Packet]:
    """The packets of a streamed response, in order of time."""
    last = script.chunks - 1
    text = " word" * script.tokens_per_chunk
    events = [
        _build_event({"content": text}, "stop" if k == last else None, k)
        for k in range(script.chunks)
    ]
    packets = _pack_events(script, script.output_times(), events)
    if script.role_after is not None:
        role = _chunked(_build_event({"role": "assistant", "content": ""}, None))
        packets.insert(0, Packet(script.role_after, role, 0))
    end = b"data: [DONE]\n\n"
    if script.usage:
        end = b"data: " + orjson.dumps({"choices": [], "usage": _usage(script)}) + b"\n\n" + end
    final = packets[-1]
    packets[-1] = Packet(final.after, final.data + _chunked(end) + b"0\r\n\r\n", final.outputs)
    packets[0] = Packet(packets[0].after, _HEAD + packets[0].data, packets[0].outputs)
    return packets


def _pack_events(script: Script, times: list[float], events: list[bytes]) -> list[Packet]:
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
    return [Packet(at, _chunked(event), 1) for at, event in zip(times, events, strict=True)]


def _build_event(delta: dict[str, str], finish_reason: str | None, number: int = 0) -> bytes:
    message = {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + orjson.dumps(message) + b"\n\n"


def _usage(script: Script) -> dict[str, int]:
    completion = script.chunks * script.tokens_per_chunk
    return {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": 10 + completion}


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
