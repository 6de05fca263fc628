"""The structured output layer: JSON responses by grammar, or by validation and retries."""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, TokenLogprob, Usage
from maxgate.generation.collect import CompletedChoice, collect
from maxgate.generation.errors import OutputValidationFailed
from maxgate.generation.json_schema import JsonValidator, certain_prefix
from maxgate.generation.request import GenerationRequest, JsonOutput, Message
from maxgate.generation.retry import Attempts
from maxgate.structured_output.instruction import MAX_SCHEMA_CHARACTERS, write_instruction

_DECODER: Final = json.JSONDecoder()
_NEXT_NAME: Final = re.compile(r',\s*"((?:[^"\\]|\\.)*)"\s*:')


class StructuredOutputFailed(OutputValidationFailed):
    """No attempt produced JSON that matches the schema."""

    default_code = "structured_output_failed"

    def __init__(self, *, attempts: int) -> None:
        super().__init__(
            "The model did not produce the JSON that 'response_format' requires: no response "
            f"matched the schema (attempts: {attempts}).",
            param="response_format",
        )


class StructuredOutputLayer:
    """Passes the schema on as a grammar, or validates the response and retries.

    The schema is also written into the prompt, with at most one character per token of context.
    Without a grammar the model card decides: `refuse`, or `retry`, which adds an example to the
    prompt and returns only a response that matches the schema. A response that the token limit
    truncates is returned as it is, with the finish reason "length", as OpenAI does.

    Raises InvalidRequest for invalid schemas and for cards that refuse, and StructuredOutputFailed
    when all attempts fail validation.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the response; a response that needs validation comes as one chunk."""
        output, tools = request.output, request.tool_use
        if output is None or (tools is not None and tools.forced):
            return self._inner.stream(request)
        validator = JsonValidator(
            output.schema, subject="response_format", param="response_format.json_schema.schema"
        )
        # A grammar would rule out tool calls.
        if request.model.capabilities.grammar and tools is None:
            grammar = output.schema or {"type": "object"}
            instructed = _add_instruction(request, output, with_example=False)
            return self._inner.stream(instructed._replace(grammar=grammar))
        if request.model.structured_output == "refuse":
            raise InvalidRequest(
                "Unsupported parameter: 'response_format': the engine of this model runs without "
                "a grammar. Its operator can start MAX with --enable-structured-output (GPU), or "
                "set 'structured_output: retry' in the model card.",
                param="response_format",
                code="unsupported_parameter",
            )
        instructed = _add_instruction(request, output, with_example=True)._replace(
            prefix=certain_prefix(output.schema) if tools is None else "",
            stream=True,
            output=None,
        )
        return self._stream_validated(instructed, _ObjectEnd(output.schema, validator))

    async def _stream_validated(
        self, request: GenerationRequest, end: "_ObjectEnd"
    ) -> AsyncGenerator[Chunk]:
        usage, attempts, backend = Usage(0, 0), Attempts(request), _FirstJsonValue(self._inner, end)
        for attempt in attempts:
            completion = await collect(backend, attempt)
            choice, usage = completion.choices[0], usage.with_attempt(completion.usage)
            if choice.tool_calls:
                calls = choice.as_deltas()
                yield Chunk(choice.text, choice.finish_reason, usage, tool_calls=calls)
                return
            if (text := find_first_value(choice.text)) and end.validator.matches(text):
                yield Chunk(text, "stop", usage, logprobs=_select_logprobs(choice, text))
                return
            if written := end.find(choice.text):
                logprobs = _select_logprobs(choice, written)
                yield Chunk(written + "}", "stop", usage, logprobs=logprobs)
                return
            truncated = choice.finish_reason == "length"
            if truncated and request.sampling.max_tokens is not None:
                break  # the client's limit would cut a retry too
        if not truncated:
            raise StructuredOutputFailed(attempts=attempts.made)
        text = choice.text.lstrip()
        yield Chunk(text, "length", usage, logprobs=_select_logprobs(choice, text))


class _ObjectEnd:
    """Finds where a grammar would have ended an object: before a property that is not declared.

    Small models go on with properties of their own after those of the schema.
    """

    def __init__(self, schema: Mapping[str, Any], validator: JsonValidator) -> None:
        self.validator = validator
        self._declared = schema.get("properties")
        if schema.get("additionalProperties") is not False or "patternProperties" in schema:
            self._declared = None

    def find(self, text: str, start: int = 0) -> str | None:
        """Return the object without its last brace, or None if no undeclared property follows it.

        Only names from `start` on count.
        """
        if not isinstance(self._declared, Mapping):
            return None
        for name in _NEXT_NAME.finditer(text, start):
            written = text[: name.start()].strip()
            if name[1] not in self._declared and self.validator.matches(written + "}"):
                return written
        return None


class _FirstJsonValue:
    """Ends a stream once it holds a complete JSON value: small models do not stop by themselves."""

    def __init__(self, inner: Backend, end: _ObjectEnd) -> None:
        self._inner = inner
        self._end = end

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        text, checked = "", 0
        async with aclosing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                is_complete = "}" in chunk.text and find_first_value(text) is not None
                if not is_complete and ":" in chunk.text:
                    is_complete = self._end.find(text, checked) is not None
                    checked = max(text.rfind(","), 0)
                if is_complete:
                    yield replace(chunk, finish_reason="stop")
                    return
                yield chunk


def find_first_value(text: str) -> str | None:
    """Return the JSON value at the start of the text, without what follows; None without one."""
    value = text.lstrip()
    try:
        _, end = _DECODER.raw_decode(value)
    except (ValueError, RecursionError):
        return None
    return value[:end]


def _add_instruction(
    request: GenerationRequest, output: JsonOutput, *, with_example: bool
) -> GenerationRequest:
    instruction = write_instruction(
        output,
        with_example=with_example,
        max_characters=min(request.model.context_length, MAX_SCHEMA_CHARACTERS),
    )
    messages = request.messages
    if messages and messages[0].role == "system":
        first, *rest = messages
        first = first._replace(parts=(*first.parts, "\n\n", instruction))
        return request._replace(messages=(first, *rest))
    return request._replace(messages=(Message("system", (instruction,)), *messages))


def _select_logprobs(choice: CompletedChoice, text: str) -> tuple[TokenLogprob, ...]:
    """Select the tokens that lie entirely within `text`; a forced prefix has no tokens."""
    if not choice.logprobs:
        return ()
    whole = choice.text.encode()
    end = len(whole) - len(whole.lstrip()) + len(text.encode())
    at = len(whole) - sum(len(token.encoded) for token in choice.logprobs)
    selected = []
    for token in choice.logprobs:
        at += len(token.encoded)
        if at > end:
            break
        selected.append(token)
    return tuple(selected)
