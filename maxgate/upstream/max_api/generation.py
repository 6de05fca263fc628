"""MAX's format of generation requests, responses and streamed chunks.

Prompts made of token ids go to `/v1/completions`, prompts that the engine formats to
`/v1/chat/completions`. With a grammar or logprobs, token ids go to `/v1/chat/completions` as
`prompt_tokens`: only that route supports grammars and reports logprobs per token. docs/engine.md
lists what MAX accepts and ignores.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import orjson

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, FinishReason, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest, Message, Sampling
from maxgate.upstream.errors import map_error_event, response_cut_off
from maxgate.upstream.max_api.prompt_logprobs import add_prompt_logprobs, parse_prompt_logprobs

_KEY: Final = b'"text":'


class ChunkFrame(NamedTuple):
    """The bytes before and after the text of a chunk.

    Successive chunks differ only in their text, and once a second in `created`. Parsing only the
    text takes 1.3 us, the whole chunk 3.4 us (MAX's chunks, one slow core).
    """

    before: bytes
    after: bytes

    @classmethod
    def from_chunk(cls, text: str, data: bytes) -> "ChunkFrame | None":
        """Return the frame of a chunk with this text, or None if it has several `text` keys."""
        # Inside a string the quotes would be escaped, so this can only be a key.
        before, key, rest = data.partition(_KEY)
        value = orjson.dumps(text)
        if not rest.startswith(value) or rest.find(_KEY) >= 0:
            return None
        return cls(before + key, rest[len(value) :])

    def extract_text(self, data: bytes) -> str | None:
        """Return the text of a chunk with this frame, or None for any other chunk."""
        before, after = self
        if not (data.startswith(before) and data.endswith(after)):
            return None
        try:
            text = orjson.loads(data[len(before) : -len(after)])
        except ValueError:  # more than a string
            return None
        return text if isinstance(text, str) else None


# MAX treats seed 0 as "no seed"; a fixed replacement keeps the response reproducible.
_SEED_FOR_ZERO: Final = 0x5EED
_SEED_MASK: Final = 2**63 - 1
_DONE: Final = b"[DONE]"
# Fields that MAX has under the same name, with the value that changes nothing.
_COPIED: Final = {
    name: Sampling._field_defaults[name]
    for name in (
        "max_tokens",
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


def serialize_request(request: GenerationRequest) -> bytes:
    """Return the JSON body for the request."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "model": request.model.engine_name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    _add_prompt(fields, request)
    if stop_token_ids := request.stop_token_ids + sampling.stop_token_ids:
        fields["stop_token_ids"] = stop_token_ids
    if (max_tokens := _limit_tokens(request)) is not None:
        fields["max_tokens"] = max_tokens
    _add_sampling(fields, sampling)
    if request.prompt_logprobs:
        add_prompt_logprobs(fields, request)
    elif sampling.logprobs is not None:
        # With 0 alternatives MAX does not report the sampled tokens either.
        fields["logprobs"], fields["top_logprobs"] = True, max(sampling.logprobs, 1)
    if _needs_running_usage(request) or sampling.logprobs is not None:
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


def _limit_tokens(request: GenerationRequest) -> int | None:
    default = request.model.sampling.max_tokens
    if request.sampling.max_tokens is not None or default is None:
        return request.sampling.max_tokens
    if request.prompt_token_ids is None:  # the engine knows the length of the prompt
        return default
    # A default is no reason to reject a long prompt.
    return min(default, request.model.context_length - request.prompt_token_ids.length)


def _add_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
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
    by `[DONE]`; events after it are ignored. `progress` grows with each token.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._keeps_ids = request.tool_use is not None
        self._needs_running_usage = _needs_running_usage(request)
        self._alternatives = request.sampling.logprobs
        self._prompt_tokens = (
            0 if request.prompt_token_ids is None else request.prompt_token_ids.length
        )
        self._completion_tokens = 0
        self._frame: ChunkFrame | None = None
        self.finished = False
        self.usage_reported = False
        self.done = False
        self.progress = 0

    @property
    def usage_so_far(self) -> Usage:
        """Tokens so far; a chunk without token ids counts as one."""
        return Usage(self._prompt_tokens, self._completion_tokens)

    def check_finished(self) -> None:
        """Raise UpstreamError unless the engine has given a finish reason."""
        if not self.finished:
            raise response_cut_off()

    def parse_events(self, events: list[bytes]) -> Iterator[Chunk]:
        """Yield the chunks of events that arrived together, without `[DONE]`.

        Raises UpstreamError if an event is an error or invalid.
        """
        if self.done:
            return
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
        text = None if self._frame is None else self._frame.extract_text(data)
        if text is not None:
            self._completion_tokens += 1
            self.progress += 1
            return Chunk(
                text, None, self.usage_so_far if self._needs_running_usage else None, has_more
            )
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
            return Chunk(usage=_parse_usage(reported), has_more=has_more)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UpstreamError("A chunk of the engine's response is invalid.") from error

    def _parse_choice(self, choice: dict[str, Any], data: bytes, has_more: bool) -> Chunk:
        first = self._completion_tokens == 0
        if first and (prompt := choice.get("prompt_token_ids")):
            self._prompt_tokens = len(prompt)
        ids = choice.get("token_ids")
        self._completion_tokens += 1 if ids is None else len(ids)
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
        if self._keeps_ids or self._alternatives is not None:
            kept = tuple(ids or ()) if self._keeps_ids else ()
            logprobs = _parse_logprobs(choice, self._alternatives)
            return Chunk(text, reason, usage, has_more, (), logprobs, 0, kept)
        if text and ids is None and delta is None and reason is None:
            self._frame = ChunkFrame.from_chunk(text, data)
        return Chunk(text, reason, usage, has_more)


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
