"""The layers of tool calling: validated strict calls, forced calls, and parsed calls."""

from contextlib import aclosing

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, ToolCallDelta, Usage
from maxgate.generation.request import GenerationRequest, Message, Tool, ToolCall, ToolUse
from maxgate.tool_calling.layer import ToolCallingLayer, ToolParserLayer
from maxgate.tool_calling.strict import ToolCallFailed
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
STRICT, LOOSE = Tool("f", "", NUMBER, strict=True), Tool("f", "", NUMBER)


class FakeFormat:
    """A chat format with a special token for calls."""

    call_tag = 7


FORMATS = {"small-on-max": FakeFormat()}


def make_request(
    tool: Tool, *, stream: bool = True, forced: tuple[str, ...] = ()
) -> GenerationRequest:
    return generation_request(stream=stream)._replace(tool_use=ToolUse((tool,), forced))


async def run(backend: Backend, request: GenerationRequest) -> list[Chunk]:
    async with aclosing(backend.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


def call(arguments: str, usage: Usage) -> list[Chunk]:
    deltas = (ToolCallDelta(0, "f"), ToolCallDelta(0, None, arguments))
    return [Chunk(tool_calls=deltas), Chunk("", "tool_calls", usage)]


async def test_retry() -> None:
    """A strict call that does not match is retried, and the usage of both attempts is counted."""
    inner = FakeBackend(call("{}", Usage(9, 2)), call('{"a": 1}', Usage(9, 3)))
    assert await run(ToolCallingLayer(inner, FORMATS), make_request(STRICT)) == [
        Chunk(),
        Chunk("", "tool_calls", Usage(9, 5), tool_calls=(ToolCallDelta(0, "f", '{"a": 1}'),)),
    ]


@pytest.mark.parametrize(("stream", "attempts"), [(True, 1), (False, 3)])
async def test_text_before_failure(*, stream: bool, attempts: int) -> None:
    """There is no retry once text was sent; a response that is not streamed holds its text."""
    inner = FakeBackend([Chunk("Well. "), *call("{}", Usage(9, 2))])
    with pytest.raises(ToolCallFailed, match=rf"attempts: {attempts}"):
        await run(ToolCallingLayer(inner, FORMATS), make_request(STRICT, stream=stream))
    assert len(inner.requests) == attempts


async def test_used_up_allowance() -> None:
    """Without retries left, the first mismatch is an error."""
    inner, request = FakeBackend(call("{}", Usage(9, 2))), make_request(STRICT)
    while request.context.retries.take():
        pass
    with pytest.raises(ToolCallFailed, match="attempts: 1"):
        await run(ToolCallingLayer(inner, FORMATS), request)


@pytest.mark.parametrize("request_", [generation_request(), make_request(LOOSE)])
async def test_nothing_to_enforce(request_: GenerationRequest) -> None:
    """Requests without strict tools or a forced call pass unchanged."""
    inner = FakeBackend([])
    await run(ToolCallingLayer(inner, FORMATS), request_)
    assert inner.requests == [request_]


async def test_forced_call() -> None:
    """A forced call gets its prefix."""
    inner = FakeBackend(call('{"a": 1}', Usage(9, 3)))
    await run(ToolCallingLayer(inner, FORMATS), make_request(LOOSE, forced=("f",)))
    assert [one.prefix for one in inner.requests] == ['{"name": "f", "parameters": {"a": ']


async def test_forced_call_without_format() -> None:
    """A forced call needs a grammar or a chat format here."""
    with pytest.raises(InvalidRequest, match="a tool call cannot be enforced"):
        await run(ToolCallingLayer(FakeBackend([]), {}), make_request(LOOSE, forced=("f",)))


async def test_invalid_schema() -> None:
    """An invalid schema is rejected before a forced choice calls the engine."""
    tools = (Tool("f", "", {"type": "wat"}, strict=True), LOOSE._replace(name="g"))
    inner = FakeBackend([])
    request = make_request(LOOSE)._replace(tool_use=ToolUse(tools, forced=("f", "g")))
    with pytest.raises(InvalidRequest, match="Invalid schema for the strict function 'f'"):
        await run(ToolCallingLayer(inner, FORMATS), request)
    assert inner.requests == []


async def test_parsing() -> None:
    """Tools are written into the prompt, and calls in the text become deltas."""
    text = 'Well.\n{"name": "f", "parameters": {}}'
    inner = FakeBackend([Chunk(text, "stop", Usage(9, 3), token_ids=(1, 2))])
    [chunk] = await run(ToolParserLayer(inner, FORMATS), make_request(LOOSE, stream=False))
    deltas = (ToolCallDelta(0, "f"), ToolCallDelta(0, None, "{"), ToolCallDelta(0, None, "}"))
    assert chunk == Chunk("Well.", "tool_calls", Usage(9, 3), tool_calls=deltas)
    [request] = inner.requests
    assert (request.messages[0].role, request.stream) == ("system", True)


async def test_call_tag() -> None:
    """The special token starts a call in the middle of a line."""
    call_text = '{"name": "f", "parameters": {}}'
    script = [Chunk("Well.", token_ids=(1,)), Chunk(call_text, "stop", token_ids=(7, 2))]
    chunks = await run(ToolParserLayer(FakeBackend(script), FORMATS), make_request(LOOSE))
    assert [chunk.text for chunk in chunks] == ["Well.", ""]
    assert chunks[-1].finish_reason == "tool_calls"


async def test_single_call() -> None:
    """A call started by a prefix is the only one; the stream is left after it."""
    script = [Chunk('{"name": "f", "parameters": {}}', usage=Usage(9, 3)), Chunk("more")]
    inner = FakeBackend(script)
    request = make_request(LOOSE)._replace(prefix='{"name": "f", "parameters": {')
    [chunk] = await run(ToolParserLayer(inner, FORMATS), request)
    assert (chunk.finish_reason, chunk.usage, inner.ended) == ("tool_calls", Usage(9, 3), 1)


async def test_earlier_calls() -> None:
    """Earlier calls are written into the prompt even if the request has no tools."""
    inner = FakeBackend([])
    message = Message("assistant", ("",), (ToolCall("1", "f", "{}"),))
    request = generation_request()._replace(messages=(message,))
    await run(ToolParserLayer(inner, FORMATS), request)
    written = Message("assistant", ("", '{"name": "f", "parameters": {}}'))
    assert inner.requests == [request._replace(messages=(written,))]
