"""MAX's format of generation requests, responses and streamed chunks.

Prompts made of token ids go to `/v1/completions`, prompts that the engine formats to
`/v1/chat/completions`. With a grammar or logprobs, token ids go to `/v1/chat/completions` as
`prompt_tokens`: only that route supports grammars and reports logprobs per token. docs/engine.md
lists what MAX accepts and ignores.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, FinishReason, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest, Message, Sampling

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
_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}


def select_path(request: GenerationRequest) -> str:
    """Return the path of the route that serves the request."""
    return _CHAT if _needs_chat_route(request) else "/v1/completions"


def _needs_chat_route(request: GenerationRequest) -> bool:
    if request.prompt_token_ids is None and request.raw_prompt is None:
        return True
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
    _add_sampling(fields, sampling)
    if _needs_running_usage(request):
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


def _add_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
    for field, default in _COPIED.items():
        if (value := getattr(sampling, field)) != default:
            fields[field] = value
    if sampling.seed is not None:
        fields["seed"] = (sampling.seed & _SEED_MASK) or _SEED_FOR_ZERO
    if sampling.logprobs is not None:
        # With 0 alternatives MAX does not report the sampled tokens either.
        fields["logprobs"], fields["top_logprobs"] = True, max(sampling.logprobs, 1)


def _convert_message(message: Message) -> dict[str, str]:
    # MAX requires tool results to reference a call, but calls are sent as text here.
    role = "user" if message.role == "tool" else message.role
    return {"role": role, "content": "".join(message.parts)}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def parse_response(data: bytes, request: GenerationRequest) -> Chunk:
    """Return a response that was not streamed as one chunk; raises UpstreamError if invalid."""
    try:
        response = orjson.loads(data)
        choice = response["choices"][0]
        message = choice.get("message")
        text = choice["text"] if message is None else message["content"]
        return Chunk(
            text or "",
            _parse_finish_reason(choice),
            _parse_usage(response["usage"]),
            logprobs=_parse_logprobs(choice, request.sampling.logprobs),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamError("The engine's response is invalid.") from error


class ChunkReader:
    """Parses the chunks of one stream and counts tokens for engines that do not.

    The first chunk carries the usage so far; every chunk does if a layer above may close the stream
    early. `finished` is set by a finish reason, `usage_reported` by the engine's own usage.
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

    @property
    def usage_so_far(self) -> Usage:
        """Tokens so far; a chunk without token ids counts as one."""
        return Usage(self._prompt_tokens, self._completion_tokens)

    def parse_events(self, events: list[bytes]) -> Iterator[Chunk]:
        """Yield the chunks of events that arrived together, without `[DONE]`.

        Raises UpstreamError if an event is an error or invalid.
        """
        while events and events[-1] == _DONE:
            events.pop()
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
            return Chunk(
                text, None, self.usage_so_far if self._needs_running_usage else None, has_more
            )
        try:
            fields = orjson.loads(data)
            choices = fields.get("choices")
            if choices:
                return self._parse_choice(choices[0], data, has_more)
            if "error" in fields:
                raise UpstreamError("The engine failed in the middle of its response.")
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
        text = choice["text"] if delta is None else delta.get("content")
        reason = choice.get("finish_reason")
        if self.finished:
            # After a stop string MAX continues for a few tokens; only their usage matters.
            return Chunk(has_more=has_more)
        usage = self.usage_so_far if first or self._needs_running_usage else None
        self._frame = None
        if reason is not None:
            self.finished = True
            reason = _FINISH_REASONS.get(reason, "stop")
        if self._keeps_ids or self._alternatives is not None:
            kept = tuple(ids or ()) if self._keeps_ids else ()
            logprobs = _parse_logprobs(choice, self._alternatives)
            return Chunk(text or "", reason, usage, has_more, (), logprobs, 0, kept)
        if text and ids is None and delta is None and reason is None:
            self._frame = ChunkFrame.from_chunk(text, data)
        return Chunk(text or "", reason, usage, has_more)


def _parse_finish_reason(choice: dict[str, Any]) -> FinishReason | None:
    reason = choice.get("finish_reason")
    return None if reason is None else _FINISH_REASONS.get(reason, "stop")


def _parse_logprobs(choice: dict[str, Any], alternatives: int | None) -> tuple[TokenLogprob, ...]:
    if alternatives is None:
        return ()
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    # The token that ends a response has no text and is not part of it.
    return tuple([_parse_token_logprob(token, alternatives) for token in tokens if token["token"]])


def _parse_token_logprob(token: dict[str, Any], alternatives: int) -> TokenLogprob:
    top = [Alternative(t["token"], t["logprob"]) for t in token["top_logprobs"][:alternatives]]
    return TokenLogprob(token["token"], token["logprob"], tuple(top))


def _parse_usage(fields: dict[str, Any]) -> Usage:
    details = fields.get("prompt_tokens_details") or {}
    return Usage(
        fields["prompt_tokens"], fields["completion_tokens"], details.get("cached_tokens") or 0
    )
