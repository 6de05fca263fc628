"""The two layers of tool calling: one enforces the client's rules, the other speaks to the model.

Structured output stands between them: it adds its instruction before the tools are written into
the prompt, and needs the calls to be parsed already.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Chunk, FinishReason, ToolCallDelta, Usage
from maxgate.generation.request import GenerationRequest
from maxgate.generation.retry import Attempts
from maxgate.tool_calling.arguments import Event
from maxgate.tool_calling.choice import force_call
from maxgate.tool_calling.parser import ToolCallParser
from maxgate.tool_calling.prompt import write_tools
from maxgate.tool_calling.strict import StrictResponse, StrictTools, ToolCallFailed


class CallFormat(Protocol):
    """The facts about a model's chat format that tool calling needs."""

    @property
    def call_tag(self) -> int | None:
        """Id of the special token that announces a tool call, if the model has one."""
        ...


CallFormats = Mapping[str, CallFormat]
"""Chat formats by the engine's name of the model; engines format prompts for other models."""


class ToolCallingLayer:
    """Forces the tool call that `tool_choice` requires, and validates the calls of strict tools.

    A forced choice among several tools takes one engine call of its own, once per choice and
    before the first attempt; it does not count as a retry. Calls of strict tools are held back
    until they are complete, text is passed on at once. If a call does not match its schema and no
    text was passed on, the request is retried. A call that was truncated by the token limit is
    passed on as it is, as OpenAI does.

    Raises InvalidRequest for invalid schemas of strict tools and when a tool call is required but
    cannot be enforced by grammar or prompt, and ToolCallFailed when all attempts fail validation.
    """

    def __init__(self, inner: Backend, formats: CallFormats) -> None:
        self._inner = inner
        self._formats = formats

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the response; each call of a strict tool comes in one chunk."""
        use = request.tool_use
        if use is None:
            return self._inner.stream(request)
        tools = StrictTools(use.tools) if any(tool.strict for tool in use.tools) else None
        if use.forced:
            return self._stream_forced(request, tools)
        return self._stream_attempts(request, tools)

    async def _stream_forced(
        self, request: GenerationRequest, tools: StrictTools | None
    ) -> AsyncGenerator[Chunk]:
        has_format = _find_format(self._formats, request.model) is not None
        request, choice_usage = await force_call(self._inner, request, can_prefix=has_format)
        async with aclosing(self._stream_attempts(request, tools)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage and chunk.usage.with_attempt(choice_usage)
                yield replace(chunk, usage=usage)

    def _stream_attempts(
        self, request: GenerationRequest, tools: StrictTools | None
    ) -> AsyncGenerator[Chunk]:
        if tools is None:
            return self._inner.stream(request)
        return self._stream_validated(request, tools)

    async def _stream_validated(
        self, request: GenerationRequest, tools: StrictTools
    ) -> AsyncGenerator[Chunk]:
        usage, attempts = Usage(0, 0), Attempts(request)
        for attempt in attempts:
            response = StrictResponse(attempt, tools, usage_before=usage)
            async with aclosing(self._inner.stream(attempt)) as chunks:
                async for chunk in chunks:
                    for ready in response.feed(chunk):
                        yield ready
                    if response.ended_early:
                        return
            if not response.failed_tool:
                return
            usage = response.usage
            if response.text_sent:
                break  # what was sent cannot be taken back
        raise ToolCallFailed(response.failed_tool, attempts=attempts.made)


class ToolParserLayer:
    """Writes tools and earlier calls into the prompt, and parses calls out of the response."""

    def __init__(self, inner: Backend, formats: CallFormats) -> None:
        self._inner = inner
        self._formats = formats

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the response with its tool calls as deltas."""
        use = request.tool_use
        if use is None and not any(message.calls for message in request.messages):
            return self._inner.stream(request)
        messages = write_tools(request.messages, use, request.model.tool_style)
        request = request._replace(messages=messages)
        if use is None:
            return self._inner.stream(request)
        # Only a forced call is started by a prefix.
        parser = ToolCallParser(use.tools, parallel=use.parallel, forced=bool(request.prefix))
        chat_format = _find_format(self._formats, request.model)
        tag = None if chat_format is None else chat_format.call_tag
        # Only a stream can be left early with its tokens counted.
        return parse_calls(self._inner.stream(request._replace(stream=True)), parser, call_tag=tag)


def _find_format(formats: CallFormats, model: ServedModel) -> CallFormat | None:
    return None if model.prompt == "engine" else formats.get(model.engine_name)


async def parse_calls(
    chunks: AsyncGenerator[Chunk], parser: ToolCallParser, *, call_tag: int | None
) -> AsyncGenerator[Chunk]:
    """Move the calls in the text of the chunks into their `tool_calls`.

    `call_tag` is the id of the special token that announces a call and is not part of the text.
    The stream is left as soon as the parser needs no more text.
    """
    called = ended = False
    async with aclosing(chunks):
        async for chunk in chunks:
            events = parser.feed(chunk.text, tagged=call_tag in chunk.token_ids)
            reason = chunk.finish_reason
            if reason is not None:
                ended = True  # chunks after this one only carry usage
                events += parser.finish(complete=reason == "stop")
            called = called or any(isinstance(event, ToolCallDelta) for event in events)
            if parser.done and not ended:
                yield _with_events(chunk, events, "tool_calls")
                return
            if called and (reason == "stop" or (reason is not None and parser.done)):
                reason = "tool_calls"
            yield _with_events(chunk, events, reason)


def _with_events(chunk: Chunk, events: Sequence[Event], reason: FinishReason | None) -> Chunk:
    return replace(
        chunk,
        text="".join([event for event in events if isinstance(event, str)]),
        tool_calls=tuple([event for event in events if not isinstance(event, str)]),
        finish_reason=reason,
        token_ids=(),
    )
