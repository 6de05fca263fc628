"""Structured output without a grammar: validated responses, retries, usage and logprobs."""

from dataclasses import replace

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import Capabilities
from maxgate.generation.chunk import Alternative, Chunk, TokenLogprob, Usage
from maxgate.generation.collect import CompletedChoice, Completion, collect
from maxgate.generation.request import GenerationRequest, JsonOutput, Message, Tool, ToolUse
from maxgate.structured_output.instruction import write_instruction
from maxgate.structured_output.layer import StructuredOutputFailed, StructuredOutputLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request, served_model

RETRY = replace(served_model(), structured_output="retry")
GRAMMAR = replace(served_model(), capabilities=Capabilities(grammar=True))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
VALID = [Chunk('{"a": 1}', "stop", Usage(9, 4))]
INVALID = [Chunk('{"a": "x"}', "stop", Usage(9, 5))]
TRUNCATED = [Chunk('{"a": ', "length", Usage(9, 2))]


def make_request(*, max_tokens: int | None = None) -> GenerationRequest:
    request = generation_request(model=RETRY, seed=5, max_tokens=max_tokens)
    return request._replace(output=JsonOutput(SCHEMA))


async def test_retry() -> None:
    """A response that does not match is retried; usage counts all attempts, the prompt once."""
    inner = FakeBackend(INVALID, VALID)
    request = make_request()
    assert await collect(StructuredOutputLayer(inner), request) == Completion(
        (CompletedChoice('{"a": 1}', "stop"),), Usage(9, 9)
    )
    assert [(one.sampling.seed, one.prefix, one.output) for one in inner.requests] == [
        (5, '{"a": ', None),
        (6, '{"a": ', None),
    ]


CLOSED = {**SCHEMA, "additionalProperties": False}


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize(
    "rest", [', "b": 2}', ' ,\n"b\\"c" : {"d": 1', ', "b": 2, "a": 3}', ', "b":']
)
async def test_undeclared_property(rest: str, size: int) -> None:
    """A closed object ends before the first property that its schema does not declare."""
    text = ' {"a": 1' + rest
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    inner = FakeBackend([Chunk(piece, usage=Usage(9, 1)) for piece in pieces])
    request = make_request()._replace(output=JsonOutput(CLOSED))
    [choice] = (await collect(StructuredOutputLayer(inner), request)).choices
    assert (choice, len(inner.requests)) == (CompletedChoice('{"a": 1}', "stop"), 1)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (SCHEMA, '{"a": 1, "b": 2}'),
        ({**CLOSED, "patternProperties": {"^b": {}}}, '{"a": 1, "b": 2}'),
    ],
)
async def test_open_object(schema: dict[str, object], text: str) -> None:
    """Properties that the schema allows without declaring them stay."""
    request = make_request()._replace(output=JsonOutput(schema))
    inner = FakeBackend([Chunk(text, "stop", Usage(9, 4))])
    [choice] = (await collect(StructuredOutputLayer(inner), request)).choices
    assert choice.text == text


async def test_undeclared_property_too_early() -> None:
    """Without its required properties, an object is no match; nested properties do not end it."""
    early = [Chunk('{"b": 2, "c": 3, "a": 1}', "stop", Usage(9, 5))]
    nested = {"type": "object", "properties": {"x": {"type": "object"}}, "required": ["x"]}
    request = make_request()._replace(output=JsonOutput(CLOSED))
    with pytest.raises(StructuredOutputFailed):
        await collect(StructuredOutputLayer(FakeBackend(early)), request)
    text = '{"x": {"y": 1, "z": 2}}'
    request = request._replace(output=JsonOutput({**nested, "additionalProperties": False}))
    inner = FakeBackend([Chunk(text, "stop", Usage(9, 4))])
    [choice] = (await collect(StructuredOutputLayer(inner), request)).choices
    assert choice.text == text


async def test_failure() -> None:
    """The error tells the number of attempts."""
    with pytest.raises(StructuredOutputFailed, match=r"no response matched .* \(attempts: 3\)"):
        await collect(StructuredOutputLayer(FakeBackend(INVALID)), make_request())


@pytest.mark.parametrize(("max_tokens", "attempts"), [(2, 1), (None, 3)])
async def test_truncated(max_tokens: int | None, attempts: int) -> None:
    """A truncated response is returned; only the context's limit is retried, not the client's."""
    inner = FakeBackend(TRUNCATED)
    layer = StructuredOutputLayer(inner)
    assert await collect(layer, make_request(max_tokens=max_tokens)) == Completion(
        (CompletedChoice('{"a": ', "length"),), Usage(9, 2 * attempts)
    )
    assert len(inner.requests) == attempts


async def test_truncated_after_mismatch() -> None:
    """The last attempt decides between the error and the truncated response."""
    inner = FakeBackend(INVALID, TRUNCATED)
    [choice] = (await collect(StructuredOutputLayer(inner), make_request(max_tokens=2))).choices
    assert choice == CompletedChoice('{"a": ', "length")
    with pytest.raises(StructuredOutputFailed, match=r"attempts: 3"):
        await collect(
            StructuredOutputLayer(FakeBackend(TRUNCATED, INVALID, INVALID)), make_request()
        )


async def test_used_up_allowance() -> None:
    """Without retries left, the first mismatch is an error."""
    inner = FakeBackend(INVALID)
    request = make_request()
    while request.context.retries.take():
        pass
    with pytest.raises(StructuredOutputFailed, match=r"attempts: 1"):
        await collect(StructuredOutputLayer(inner), request)
    assert len(inner.requests) == 1


async def test_logprobs() -> None:
    """The response has the logprobs of the tokens within the JSON value."""
    tokens = [
        TokenLogprob(text, -0.5, (Alternative(text, -0.5),))
        for text in (" ", '{"a"', ": 1}", " and", " more")
    ]
    script = [Chunk(one.token, usage=Usage(3, 1), logprobs=(one,)) for one in tokens]
    request = generation_request(model=RETRY)._replace(output=JsonOutput({}))
    [choice] = (await collect(StructuredOutputLayer(FakeBackend(script)), request)).choices
    assert (choice.text, choice.logprobs) == ('{"a": 1}', tuple(tokens[:3]))


async def test_logprobs_of_parts() -> None:
    """Tokens that are parts of a character count by their bytes."""
    parts = [TokenLogprob("\ufffd", -0.5, data=bytes([byte])) for byte in "é".encode()]
    first, end, more = [TokenLogprob(text, -0.5) for text in ('{"a": "', '"}', " more")]
    script = [Chunk('{"a": "é"} more', "stop", Usage(3, 1), logprobs=(first, *parts, end, more))]
    request = generation_request(model=RETRY)._replace(output=JsonOutput({}))
    [choice] = (await collect(StructuredOutputLayer(FakeBackend(script)), request)).choices
    assert (choice.text, choice.logprobs) == ('{"a": "é"}', (first, *parts, end))


async def test_grammar() -> None:
    """An engine with a grammar gets the schema there and in its prompt; its response passes."""
    inner = FakeBackend(INVALID)
    request = make_request()._replace(model=GRAMMAR)
    [choice] = (await collect(StructuredOutputLayer(inner), request)).choices
    assert choice.text == '{"a": "x"}'
    written = write_instruction(JsonOutput(SCHEMA), with_example=False, max_characters=100)
    messages = (Message("system", (written,)), *request.messages)
    assert inner.requests == [request._replace(grammar=SCHEMA, messages=messages)]


async def test_instruction() -> None:
    """Without a grammar, schema and example follow the first system message."""
    inner = FakeBackend(VALID)
    system, user = Message("system", ("Be brief.",)), Message("user", ("Hi",))
    request = make_request()._replace(messages=(system, user))
    await collect(StructuredOutputLayer(inner), request)
    written = write_instruction(JsonOutput(SCHEMA), with_example=True, max_characters=100)
    assert inner.requests[0].messages == (
        Message("system", ("Be brief.", "\n\n", written)),
        user,
    )


async def test_refusal() -> None:
    """Without a grammar, a card that does not say 'retry' refuses."""
    request = make_request()._replace(model=served_model())
    with pytest.raises(InvalidRequest, match="structured_output: retry"):
        await collect(StructuredOutputLayer(FakeBackend(VALID)), request)


async def test_forced_call() -> None:
    """A forced tool call takes precedence over the output format."""
    use = ToolUse((Tool("f", "", {}),), forced=("f",))
    inner = FakeBackend(INVALID)
    request = make_request()._replace(tool_use=use)
    await collect(StructuredOutputLayer(inner), request)
    assert inner.requests == [request]
