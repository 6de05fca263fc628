"""MAX's format of generation requests, responses and streamed chunks.

Prompts made of token ids go to `/v1/completions`, prompts that the engine formats to
`/v1/chat/completions`. With a grammar or logprobs, token ids go to `/v1/chat/completions` as
`prompt_tokens`: only that route supports grammars and reports logprobs per token. docs/engine.md
lists what MAX accepts and ignores.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from types import TracebackType
from typing import Any, Final, Self

import orjson

from maxgate.errors import UpstreamError, UpstreamTimeout
from maxgate.generation.chunk import Alternative, Chunk, FinishReason, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest, Message, Sampling
from maxgate.net.event_stream import MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError
from maxgate.upstream.continuation import Continuation
from maxgate.upstream.errors import map_error_event, response_cut_off, response_too_large
from maxgate.upstream.max_api.chunk_frame import ChunkFrame
from maxgate.upstream.max_api.prompt_logprobs import add_prompt_logprobs, parse_prompt_logprobs

# MAX treats seed 0 as "no seed"; a fixed replacement keeps the response reproducible.
_SEED_FOR_ZERO: Final = 0x5EED
_SEED_MASK: Final = 2**63 - 1
_DONE: Final = b"[DONE]"
# Fields that MAX has under the same name, with the value that changes nothing.
_COPIED: Final = {
    name: Sampling._field_defaults[name]
    for name in (
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "top_k",
        "min_p",
        "repetition_penalty",
        "min_tokens",
        "ignore_eos",
    )
}
_OPTIONS: Final = Sampling._fields.index("stop")
_DEFAULT_OPTIONS: Final = tuple(Sampling._field_defaults.values())[_OPTIONS - 2 :]
_CHAT: Final = "/v1/chat/completions"
# MAX requires messages next to `prompt_tokens`, and ignores them.
_IGNORED_MESSAGES: Final = [{"role": "user", "content": ""}]
_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    # Text Generation Inference; and engines that find tool calls themselves.
    "eos_token": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
}


def select_path(request: GenerationRequest) -> str:
    """Return the path of the route that serves the request."""
    return _CHAT if _needs_chat_route(request) else "/v1/completions"


def _needs_chat_route(request: GenerationRequest) -> bool:
    if request.prompt_token_ids is None and request.raw_prompt is None:
        return True
    if request.prompt_logprobs:
        return False
    return request.grammar is not None or request.sampling.logprobs is not None


def serialize_request(request: GenerationRequest, *, with_ids: bool = False) -> bytes:
    """Return the JSON body for the request; `with_ids` asks for the ids of generated tokens."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "model": request.model.engine_name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    _add_prompt(fields, request)
    if stop_token_ids := request.stop_token_ids + sampling.stop_token_ids:
        fields["stop_token_ids"] = stop_token_ids
    if (max_tokens := limit_tokens(request)) is not None:
        fields["max_tokens"] = max_tokens
    _add_sampling(fields, sampling)
    if request.prompt_logprobs:
        add_prompt_logprobs(fields, request)
    elif sampling.logprobs is not None:
        # With 0 alternatives MAX does not report the sampled tokens either.
        fields["logprobs"], fields["top_logprobs"] = True, max(sampling.logprobs, 1)
    if with_ids or _needs_running_usage(request) or sampling.logprobs is not None:
        fields["return_token_ids"] = True
    if request.grammar is not None:
        fields["response_format"] = _response_format(request.grammar)
    if request.stream:
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
    return orjson.dumps(fields)


def _needs_running_usage(request: GenerationRequest) -> bool:
    """Whether a layer above may close the stream early, or the client wants the usage so far."""
    return (
        bool(request.sampling.stop or request.prefix or request.running_usage)
        or request.tool_use is not None
    )


def _add_prompt(fields: dict[str, Any], request: GenerationRequest) -> None:
    prompt = (
        None
        if request.prompt_token_ids is None
        else orjson.Fragment(b"[%b]" % request.prompt_token_ids.json)
    )
    if not _needs_chat_route(request):
        fields["prompt"] = request.raw_prompt if prompt is None else prompt
    elif prompt is None:
        fields["messages"] = [_convert_message(message) for message in request.messages]
        if request.template_variables:
            fields["chat_template_kwargs"] = request.template_variables
    else:
        fields["prompt_tokens"], fields["messages"] = prompt, _IGNORED_MESSAGES


def limit_tokens(request: GenerationRequest) -> int | None:
    """Return the limit of the response in tokens, None for the engine's."""
    default = request.model.sampling.max_tokens
    if request.sampling.max_tokens is not None or default is None:
        return request.sampling.max_tokens
    if request.prompt_token_ids is None:  # the engine knows the length of the prompt
        return default
    # A default is no reason to reject a long prompt.
    return min(default, request.model.context_length - request.prompt_token_ids.length)


def _add_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
    if sampling[_OPTIONS:] != _DEFAULT_OPTIONS:  # most requests set none
        for field, default in _COPIED.items():
            if (value := getattr(sampling, field)) != default:
                fields[field] = value
    if sampling.seed is not None:
        fields["seed"] = (sampling.seed & _SEED_MASK) or _SEED_FOR_ZERO


def _convert_message(message: Message) -> dict[str, str]:
    # MAX requires tool results to reference a call, but calls are sent as text here.
    role = "user" if message.role == "tool" else message.role
    return {"role": role, "content": "".join(message.parts)}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def parse_response(data: bytes, request: GenerationRequest) -> Chunk:
    """Return a response that was not streamed as one chunk.

    Raises UpstreamError if it is invalid or the engine did not finish it.
    """
    try:
        response = orjson.loads(data)
        if error := response.get("error"):
            raise map_error_event(error)
        choice, usage = response["choices"][0], _parse_usage(response["usage"])
        reason = _parse_finish_reason(choice.get("finish_reason"))
        if request.prompt_logprobs:
            return parse_prompt_logprobs(choice, reason, usage, request)
        message = choice.get("message")
        text = choice["text"] if message is None else message["content"]
        return Chunk(
            _check_text(text),
            reason,
            usage,
            logprobs=_parse_logprobs(choice, request.sampling.logprobs),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamError("The engine's response is invalid.") from error


class ChunkReader:
    """Parses the chunks of one stream and counts tokens for engines that do not.

    The first chunk carries the usage so far; every chunk does if a layer above may close the stream
    early. `finished` is set by a finish reason, `usage_reported` by the engine's own usage, `done`
    by `[DONE]`; events after it are ignored. `progress` grows with each token. `completion_tokens`
    counts them; a chunk without token ids counts as one.

    As a context manager, it suppresses errors of the engine once the response is finished.

    With a `continuation`, the ids of all tokens are added to it, counts begin with those it has,
    and ids and logprobs of tokens without text are passed on with the next text.
    """

    def __init__(
        self, request: GenerationRequest, continuation: Continuation | None = None
    ) -> None:
        self._decoder = EventStreamDecoder()
        self._continuation = continuation
        self._held_ids: tuple[int, ...] = ()
        self._held_logprobs: tuple[TokenLogprob, ...] = ()
        self._keeps_ids = request.tool_use is not None
        self._needs_running_usage = _needs_running_usage(request)
        self._alternatives = request.sampling.logprobs
        self._prompt_tokens = (
            0 if request.prompt_token_ids is None else request.prompt_token_ids.length
        )
        self._tokens_before = 0 if continuation is None else continuation.count
        self.completion_tokens = self._tokens_before
        self._frame: ChunkFrame | None = None
        self.finished = False
        self.usage_reported = False
        self.done = False
        self.progress = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self.finished and isinstance(error, UpstreamError | UpstreamTimeout)

    @property
    def usage_so_far(self) -> Usage:
        """Tokens so far, by the reader's own count."""
        return Usage(self._prompt_tokens, self.completion_tokens)

    def check_finished(self) -> None:
        """Raise UpstreamError unless the engine has given a finish reason."""
        if not self.finished:
            raise response_cut_off()

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Yield the chunks of the events that `data` completes, without `[DONE]`.

        Raises UpstreamError if an event is an error, invalid or too large.
        """
        if self.done:
            return
        try:
            events = self._decoder.feed(data)
        except EventTooLargeError as error:
            raise response_too_large(MAX_EVENT_BYTES) from error
        if _DONE in events:
            self.done = True
            del events[events.index(_DONE) :]
        remaining = len(events)
        for event in events:
            remaining -= 1
            yield self.parse_event(event, has_more=remaining > 0)

    def parse_event(self, data: bytes, *, has_more: bool = False) -> Chunk:
        """Return the chunk in the `data` of one event.

        Raises UpstreamError if it is an error or invalid.
        """
        framed = None if self._frame is None else self._frame.extract(data)
        if framed is not None:
            text, ids, count = framed
            self.completion_tokens += count
            self.progress += 1
            if self._continuation is not None:
                self._continuation.add(ids, count, shown=bool(text))
            if self._needs_running_usage:
                return Chunk(text, None, self.usage_so_far, has_more)
            return Chunk(text, has_more=has_more)
        try:
            fields = orjson.loads(data)
            if error := fields.get("error"):
                raise map_error_event(error)
            choices = fields.get("choices")
            if choices:
                return self._parse_choice(choices[0], data, has_more)
            if (reported := fields.get("usage")) is None:
                return Chunk(has_more=has_more)
            self.usage_reported = True
            return Chunk(usage=self._add_tokens_before(_parse_usage(reported)), has_more=has_more)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UpstreamError("A chunk of the engine's response is invalid.") from error

    def _parse_choice(self, choice: dict[str, Any], data: bytes, has_more: bool) -> Chunk:
        first = self.progress == 0
        if first and not self._tokens_before and (prompt := choice.get("prompt_token_ids")):
            self._prompt_tokens = len(prompt)
        ids = choice.get("token_ids")
        self.completion_tokens += 1 if ids is None else len(ids)
        delta = choice.get("delta")
        text = _check_text(choice["text"] if delta is None else delta.get("content"))
        reason = choice.get("finish_reason")
        if text or ids or reason is not None:
            self.progress += 1
        if self.finished:
            # After a stop string MAX continues for a few tokens; only their usage matters.
            return Chunk(has_more=has_more)
        usage = self.usage_so_far if first or self._needs_running_usage else None
        self._frame = None
        if reason is not None:
            reason = _parse_finish_reason(reason)
            self.finished = True
        if self._continuation is not None and (ids or text) and reason is None:
            encoded = orjson.dumps(ids or [])[1:-1]
            self._continuation.add(encoded, len(ids or ()), shown=bool(text))
        if self._keeps_ids or self._alternatives is not None:
            return self._add_details(Chunk(text, reason, usage, has_more), choice)
        if text and delta is None and reason is None:
            self._frame = ChunkFrame.from_chunk(text, ids, data)
        return Chunk(text, reason, usage, has_more)

    def _add_details(self, chunk: Chunk, choice: dict[str, Any]) -> Chunk:
        ids = tuple(choice.get("token_ids") or ()) if self._keeps_ids else ()
        ids = self._held_ids + ids
        logprobs = self._held_logprobs + _parse_logprobs(choice, self._alternatives)
        self._held_ids, self._held_logprobs = (), ()
        if self._continuation is not None and not chunk.text and chunk.finish_reason is None:
            self._held_ids, self._held_logprobs = ids, logprobs
            return chunk
        return replace(chunk, logprobs=logprobs, token_ids=ids)

    def _add_tokens_before(self, usage: Usage) -> Usage:
        """Return the usage of the whole response, given that of its continuation."""
        if not self._tokens_before:
            return usage
        return Usage(
            self._prompt_tokens,
            self._tokens_before + usage.completion,
            min(usage.cached, self._prompt_tokens),
        )


def _check_text(text: Any) -> str:
    if text is not None and not isinstance(text, str):
        raise TypeError(text)
    return text or ""


def _parse_finish_reason(reason: Any) -> FinishReason | None:
    """Translate a reason; raises UpstreamError for those of failures, such as `abort`."""
    if reason is None:
        return None
    if reason not in _FINISH_REASONS:
        raise UpstreamError("The engine did not finish its response.")
    return _FINISH_REASONS[reason]


def _parse_logprobs(choice: dict[str, Any], alternatives: int | None) -> tuple[TokenLogprob, ...]:
    if alternatives is None:
        return ()
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    ids = choice.get("token_ids") or ()
    # The token that ends a response has no text and is not part of it.
    return tuple(
        [
            _parse_token_logprob(token, alternatives, token_id)
            for token, token_id in zip_longest(tokens, ids[: len(tokens)])
            if token["token"]
        ]
    )


def _parse_token_logprob(
    token: dict[str, Any], alternatives: int, token_id: int | None
) -> TokenLogprob:
    # MAX's `bytes` encode the text of the token, also where that is only a replacement character.
    top = [Alternative(t["token"], t["logprob"]) for t in token["top_logprobs"][:alternatives]]
    return TokenLogprob(token["token"], token["logprob"], tuple(top), token_id)


def _parse_usage(fields: dict[str, Any]) -> Usage:
    details = fields.get("prompt_tokens_details") or {}
    return Usage(
        fields["prompt_tokens"], fields["completion_tokens"], details.get("cached_tokens") or 0
    )
