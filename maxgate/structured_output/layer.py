"""The structured layer: answers that have to be JSON, by grammar or by trying again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, TokenLogprob, Usage
from maxgate.generation.collect import CompletedChoice, collect
from maxgate.generation.errors import OutputValidationFailed
from maxgate.generation.json_schema import certain_prefix
from maxgate.generation.request import GenerationRequest, Message
from maxgate.structured_output.schema import Checker, first_value

TRIES: Final = 3


def retry_request(request: GenerationRequest, number: int) -> GenerationRequest:
    """The request for the try of this number, from 0; its seed goes with the number."""
    if number == 0:
        return request
    sampling = request.sampling.with_seed_offset(number)
    # At temperature 0 the same answer would come again.
    warmer = max(sampling.temperature, 0.3 * number)
    return request._replace(sampling=sampling._replace(temperature=warmer))


class StructuredOutputFailed(OutputValidationFailed):
    """The model gave no JSON that fits, however often it was asked."""

    default_code = "structured_output_failed"

    def __init__(self, *, tries: int, cut: bool) -> None:
        reason = (
            "the answer did not fit into 'max_tokens'" if cut else "no answer fitted the schema"
        )
        super().__init__(
            f"The model did not produce the JSON that 'response_format' asks for: {reason} "
            f"(tries: {tries}).",
            param="response_format",
        )


class StructuredOutputLayer:
    """Hands the schema to engines that keep to it.

    Where the engine cannot, the model's card decides: `refuse`, or `retry`, which asks for JSON in
    the prompt, checks the answer and asks again. An answer that does not fit is never passed on.

    Raises InvalidRequest for schemas that are none and where the card refuses, and
    StructuredOutputFailed where no try gave an answer that fits.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer; one that had to be checked comes in one piece."""
        output, tools = request.output, request.tool_use
        if output is None or (tools is not None and tools.forced):
            return self._inner.stream(request)
        checker = Checker(output.schema)
        # A grammar would leave no room for a call.
        if request.model.capabilities.grammar and tools is None:
            grammar = output.schema or {"type": "object"}
            return self._inner.stream(request._replace(grammar=grammar))
        if request.model.structured_output == "refuse":
            raise _refusal()
        prefix = certain_prefix(output.schema) if tools is None else ""
        return self._tries(request._replace(prefix=prefix), checker)

    async def _tries(self, request: GenerationRequest, checker: Checker) -> AsyncGenerator[Chunk]:
        messages = _instructed(request.messages, checker)
        asked = request._replace(messages=messages, stream=True, output=None)
        spent = Usage(0, 0)
        for number in range(TRIES):
            completion = await collect(_UntilComplete(self._inner), retry_request(asked, number))
            answer, spent = completion.choices[0], spent.with_attempt(completion.usage)
            if answer.tool_calls:
                yield _calling(answer, spent)
                return
            if (text := first_value(answer.text)) and checker.accepts(text):
                yield Chunk(text, "stop", spent, logprobs=_tokens_of(answer, text))
                return
            if answer.finish_reason == "length" and request.sampling.max_tokens is not None:
                break  # the room that the client gave was too small, and will be again
        raise StructuredOutputFailed(tries=number + 1, cut=answer.finish_reason == "length")


class _UntilComplete:
    """Leaves an answer as soon as it holds a whole JSON value: small models go on and on."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The chunks up to the end of the value."""
        text = ""
        async with aclosing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                if "}" in chunk.text and first_value(text) is not None:
                    yield replace(chunk, finish_reason="stop")
                    return
                yield chunk


def _instructed(messages: tuple[Message, ...], checker: Checker) -> tuple[Message, ...]:
    if messages and messages[0].role == "system":
        first, *rest = messages
        return (first._replace(parts=(*first.parts, "\n\n", checker.instruction)), *rest)
    return (Message("system", (checker.instruction,)), *messages)


def _tokens_of(answer: CompletedChoice, text: str) -> tuple[TokenLogprob, ...]:
    """Those that are whole within the text; none stands for what the answer was begun with."""
    space = len(answer.text) - len(answer.text.lstrip())
    at = len(answer.text) - sum(len(token.token) for token in answer.logprobs)
    within = []
    for token in answer.logprobs:
        at += len(token.token)
        if at > space + len(text):
            break
        within.append(token)
    return tuple(within)


def _calling(answer: CompletedChoice, usage: Usage) -> Chunk:
    return Chunk(answer.text, answer.finish_reason, usage, tool_calls=answer.as_deltas())


def _refusal() -> InvalidRequest:
    return InvalidRequest(
        "Unsupported parameter: 'response_format': the engine of this model runs without a "
        "grammar. Its operator can start MAX with --enable-structured-output (GPU), or set "
        "'structured_output: retry' in the model card.",
        param="response_format",
        code="unsupported_parameter",
    )
