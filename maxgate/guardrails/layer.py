"""The guardrails layers: the input is checked before the engine is called, the output filtered."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Final

import orjson

from maxgate.generation.backend import Backend, Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest, Message
from maxgate.guardrails.checks import Checks, Subject
from maxgate.guardrails.decisions import Decisions
from maxgate.guardrails.errors import UncheckedPrompt
from maxgate.guardrails.input_check import TextChecker
from maxgate.guardrails.output_filter import OutputFilter
from maxgate.guardrails.placeholders import Placeholders
from maxgate.guardrails.request_texts import change_texts, check_names
from maxgate.guardrails.rules import CountDecision, RuleBook, Selection

# Checking this much takes a few milliseconds; more would block other requests.
_MAX_CHARACTERS_ON_THE_LOOP: Final = 4_000


@dataclass(frozen=True, slots=True)
class SharedRules:
    """The parts that the layers share: rules, checks by services and models, and metrics."""

    rules: RuleBook
    checks: Checks
    count: CountDecision


class GuardrailLayer:
    """Applies the rules for the project and the model.

    Text of a stream is held back while it may become a match, tool calls until the end, and
    everything until the end if a service or a model judges the output.

    Raises ContentBlocked before the engine is called, UncheckedPrompt for token ids, and
    GuardrailUnavailable.
    """

    def __init__(self, inner: Backend, guardrails: SharedRules) -> None:
        self._inner = inner
        self._guardrails = guardrails

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the filtered response."""
        rules = self._guardrails.rules.select(request.context, request.model)
        if rules is None or request.model.task == "moderation":
            return self._inner.stream(request)
        return self._stream(request, rules)

    async def _stream(self, request: GenerationRequest, rules: Selection) -> AsyncGenerator[Chunk]:
        placeholders = Placeholders()
        if rules.input:
            request = await self._check_input(request, rules, placeholders)
        if not rules.output and not placeholders:
            chunks = self._inner.stream(request)
        else:
            # Every chunk has the usage so far, in case that the response ends there.
            running = request._replace(
                running_usage=request.running_usage or rules.output.may_refuse
            )
            chunks = self._filter(running, rules, placeholders)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _check_input(
        self, request: GenerationRequest, rules: Selection, placeholders: Placeholders
    ) -> GenerationRequest:
        if isinstance(request.raw_prompt, tuple) and rules.input.may_refuse:
            raise UncheckedPrompt("prompt")
        decisions = Decisions("input", self._guardrails.count)
        try:
            checker = TextChecker(rules.input, placeholders, decisions)
            check = partial(_change_request, request, placeholders, checker)
            if _measure(request) <= _MAX_CHARACTERS_ON_THE_LOOP:
                request = check()
            else:
                request = await asyncio.to_thread(check)
            if rules.input.checks:
                messages = request.messages
                if isinstance(request.raw_prompt, str):
                    messages = (Message("user", (request.raw_prompt,)),)
                subject = Subject(messages, request.model.name, request.context)
                param = "prompt" if request.raw_prompt is not None else "messages"
                await self._guardrails.checks.refuse(rules.input, subject, decisions, param)
        finally:
            decisions.report(request.context)
        return request

    async def _filter(
        self, request: GenerationRequest, rules: Selection, placeholders: Placeholders
    ) -> AsyncGenerator[Chunk]:
        decisions = Decisions("output", self._guardrails.count)
        filters = [
            OutputFilter(rules.output, placeholders, decisions, is_json=request.output is not None)
            for _ in range(request.n)
        ]
        held: list[list[Chunk]] = [[] for _ in filters]
        unfinished, usage = request.n, Usage(0, 0)
        try:
            async with aclosing(self._inner.stream(request)) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    one = filters[chunk.choice]
                    if one.is_blocked:  # the engine goes on for the sake of other choices
                        yield Chunk(usage=chunk.usage, has_more=chunk.has_more, choice=chunk.choice)
                        continue
                    if len(chunk.text) <= _MAX_CHARACTERS_ON_THE_LOOP:
                        filtered = one.filter(chunk)
                    else:
                        filtered = await asyncio.to_thread(one.filter, chunk)
                    if rules.output.checks:
                        before = held[chunk.choice]
                        filtered = await self._hold(filtered, before, rules, request, decisions)
                        one.is_blocked = filtered.finish_reason == "content_filter"
                    if one.is_blocked:
                        filtered = replace(filtered, usage=usage)
                    yield filtered
                    unfinished -= filtered.finish_reason is not None
                    if not unfinished and any(each.is_blocked for each in filters):
                        return
        finally:
            decisions.report(request.context)

    async def _hold(
        self,
        chunk: Chunk,
        before: list[Chunk],
        rules: Selection,
        request: GenerationRequest,
        decisions: Decisions,
    ) -> Chunk:
        """Hold the chunks of a choice back until its end; then return them as one, or block."""
        before.append(chunk)
        if chunk.finish_reason is None:
            return Chunk(usage=chunk.usage, has_more=chunk.has_more, choice=chunk.choice)
        whole = _join_chunks(before)
        before.clear()
        calls = [f"{call.name} {call.arguments}" for call in whole.tool_calls]
        subject = Subject(
            request.messages,
            request.model.name,
            request.context,
            "\n".join([whole.text, *calls]),
        )
        if await self._guardrails.checks.find_violation(rules.output, subject, decisions) is None:
            return whole
        return Chunk("", "content_filter", choice=chunk.choice)


class EmbeddingGuardrailLayer:
    """Applies the rules for the input of the project and the model; raises as GuardrailLayer."""

    def __init__(self, inner: Embedder, guardrails: SharedRules) -> None:
        self._inner = inner
        self._guardrails = guardrails

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed the inputs, with matches masked."""
        rules = self._guardrails.rules.select(request.context, request.model)
        if rules is None or not rules.input:
            return await self._inner.embed(request)
        texts = [item for item in request.inputs if isinstance(item, str)]
        if len(texts) < len(request.inputs) and rules.input.may_refuse:
            raise UncheckedPrompt("input")
        placeholders = Placeholders()
        decisions = Decisions("input", self._guardrails.count)
        checker = TextChecker(rules.input, placeholders, decisions)

        def change() -> list[str | Sequence[int]]:
            placeholders.reserve(texts)
            return [
                checker(item, f"input[{index}]") if isinstance(item, str) else item
                for index, item in enumerate(request.inputs)
            ]

        try:
            if sum(map(len, texts)) <= _MAX_CHARACTERS_ON_THE_LOOP:
                inputs = change()
            else:
                inputs = await asyncio.to_thread(change)
            for index, item in enumerate(inputs if rules.input.checks else ()):
                if isinstance(item, str):
                    messages = (Message("user", (item,)),)
                    subject = Subject(messages, request.model.name, request.context)
                    checks = self._guardrails.checks
                    await checks.refuse(rules.input, subject, decisions, f"input[{index}]")
        finally:
            decisions.report(request.context)
        return await self._inner.embed(replace(request, inputs=inputs))


def _change_request(
    request: GenerationRequest, placeholders: Placeholders, checker: TextChecker
) -> GenerationRequest:
    texts: list[str] = []

    def collect(text: str, _: str) -> str:
        texts.append(text)
        return text

    change_texts(request, collect)
    check_names(request, collect)
    placeholders.reserve(texts)
    check_names(request, checker.check_name)
    return change_texts(request, checker)


def _measure(request: GenerationRequest) -> int:
    """Return about the number of characters in the texts of the request."""
    size = len(request.raw_prompt) if isinstance(request.raw_prompt, str) else 0
    for message in request.messages:
        size += sum(map(len, message.parts))
        size += sum([len(call.arguments) for call in message.calls])
    for tool in request.tool_use.tools if request.tool_use is not None else ():
        size += len(tool.description) + len(orjson.dumps(tool.parameters))
    if request.output is not None:
        size += len(orjson.dumps(request.output.schema))
    if request.template_variables:
        size += len(orjson.dumps(request.template_variables))
    return size


def _join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    return replace(
        chunks[-1],
        text="".join([chunk.text for chunk in chunks]),
        tool_calls=tuple(chain.from_iterable([chunk.tool_calls for chunk in chunks])),
        logprobs=tuple(chain.from_iterable([chunk.logprobs for chunk in chunks])),
        prompt_logprobs=tuple(chain.from_iterable([chunk.prompt_logprobs for chunk in chunks])),
    )
