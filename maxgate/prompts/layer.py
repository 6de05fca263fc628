"""The prompts layer: messages to token ids before, text to text and tool calls after."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Chunk
from maxgate.generation.collect import collect
from maxgate.generation.json_schema import certain_prefix
from maxgate.generation.request import GenerationRequest, ToolUse
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.encode import is_quick, prompted, prompted_at_once
from maxgate.prompts.stop_strings import trimmed
from maxgate.tool_calling.layer import with_calls
from maxgate.tool_calling.parser import ToolCallParser
from maxgate.tool_calling.prompt import call_schema, closest_name, with_tools

_TOKENS_OF_A_NAME = 24

FormatOf = Callable[[ServedModel], ChatFormat | None]


class PromptLayer:
    """Formats prompts for models that have a format here; passes the others on as they came.

    Raises ContextLengthExceeded where prompt and `max_tokens` do not fit, before any engine is
    asked, and InvalidRequest for token ids that the model does not have and for tools that have to
    be called where neither engine nor prompt can bring that about.
    """

    def __init__(self, inner: Backend, format_of: FormatOf) -> None:
        self._inner = inner
        self._format_of = format_of

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer without its stop string, and with the tool calls in it found."""
        chat_format = self._format_of(request.model)
        if chat_format is not None and not _is_changed_after(request) and is_quick(request):
            # Most requests: nothing to wait for before, and nothing to do after.
            return self._inner.stream(prompted_at_once(request, chat_format))
        return self._changed(request, chat_format)

    async def _changed(
        self, request: GenerationRequest, chat_format: ChatFormat | None
    ) -> AsyncGenerator[Chunk]:
        use, opening, spent = request.tool_use, "", 0
        if use is not None or any(message.calls for message in request.messages):
            messages = with_tools(request.messages, use, request.model.tool_style)
            request = request._replace(messages=messages)
        if use is not None and use.forced:
            request, opening, spent = await self._forced(request, chat_format, use)
        prefix = request.prefix
        request = await prompted(request, chat_format)
        stops = request.sampling.stop
        if stops or use is not None:
            # Only a stream can be left where the answer is to end, with its tokens counted.
            request = request._replace(stream=True)
        chunks = self._inner.stream(request)
        if prefix and request.prompt_token_ids is not None and not opening:
            chunks = _begun(chunks, prefix)
        if stops:
            chunks = trimmed(chunks, stops)
        if use is not None:
            parser = ToolCallParser(use.tools, parallel=use.parallel and not opening)
            tag = None if chat_format is None else chat_format.call_tag
            chunks = with_calls(chunks, parser, tag=tag, opening=opening, spent=spent)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _forced(
        self, request: GenerationRequest, chat_format: ChatFormat | None, use: ToolUse
    ) -> tuple[GenerationRequest, str, int]:
        """The request that leads to a call for sure, and what the model is made to begin with.

        The number is of the tokens that this took already.
        """
        spent = 0
        tools = [tool for tool in use.tools if tool.name in use.forced]
        if request.model.capabilities.grammar:
            return request._replace(grammar=call_schema(tools)), "", spent
        if chat_format is None:
            raise InvalidRequest(
                "Unsupported parameter: 'tool_choice': the engine formats this model's prompts and "
                "runs without a grammar, so that no call can be made sure of. Its operator can "
                "start MAX with --enable-structured-output, or give the model a card.",
                param="tool_choice",
                code="unsupported_parameter",
            )
        if len(tools) > 1:
            name, spent = await self._chosen_name(request, chat_format, use.forced)
            tools = [tool for tool in tools if tool.name == name]
        arguments = certain_prefix({"type": "object", **tools[0].parameters})
        opening = f'{{"name": "{tools[0].name}", "parameters": {arguments}'
        return request._replace(prefix=opening), opening, spent

    async def _chosen_name(
        self, request: GenerationRequest, chat_format: ChatFormat, names: Sequence[str]
    ) -> tuple[str, int]:
        sampling = request.sampling._replace(
            temperature=0, max_tokens=_TOKENS_OF_A_NAME, logprobs=None, stop=()
        )
        asked = request._replace(prefix='{"name": "', sampling=sampling, stream=False)
        completion = await collect(self._inner, await prompted(asked, chat_format))
        name = closest_name(completion.choices[0].text, names)
        return name, completion.usage.completion


def _is_changed_after(request: GenerationRequest) -> bool:
    return bool(request.sampling.stop or request.prefix) or request.tool_use is not None


async def _begun(chunks: AsyncGenerator[Chunk], prefix: str) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield replace(chunk, text=prefix + chunk.text) if prefix else chunk
            prefix = ""
