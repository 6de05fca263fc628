"""MAX's wire format: request bodies it understands, answers and chunks as events.

A request whose prompt is token ids goes to `/v1/completions`; one that the engine formats itself
goes to `/v1/chat/completions`. So do token ids, as `prompt_tokens`, where a grammar or logprobs are
wanted: only that route has the one, and tells the other token by token. What MAX accepts and
ignores on each is listed in docs/engine.md.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, FinishReason, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest, Message, Sampling

_KEY: Final = b'"text":'


class ChunkFrame(NamedTuple):
    """What stands before and after the text of a chunk.

    An engine writes the same around every token, but for the time, once a second. A chunk whose
    text alone is read takes 1.3 us, one that is read whole 3.4 us (MAX's, on one slow core).
    """

    before: bytes
    after: bytes

    @classmethod
    def around(cls, text: str, data: bytes) -> "ChunkFrame | None":
        """The frame of this chunk, if its text is its only value of that name."""
        # In a string the quotes would be escaped: wherever this stands it is a key.
        before, key, rest = data.partition(_KEY)
        value = orjson.dumps(text)
        if not rest.startswith(value) or rest.find(_KEY) >= 0:
            return None
        return cls(before + key, rest[len(value) :])

    def text_of(self, data: bytes) -> str | None:
        """The text of a chunk that has this frame; None for any other."""
        before, after = self
        if not (data.startswith(before) and data.endswith(after)):
            return None
        try:
            text = orjson.loads(data[len(before) : -len(after)])
        except ValueError:  # more than a text stands there
            return None
        return text if isinstance(text, str) else None


# MAX takes seed 0 for "no seed"; a fixed number keeps its promise of the same answer again.
_SEED_FOR_ZERO = 0x5EED
_SEED_MASK = 2**63 - 1
_DONE: Final = b"[DONE]"
_CHAT: Final = "/v1/chat/completions"
# MAX wants messages also where it is given token ids, and does not look at them.
_NO_MESSAGES: Final = [{"role": "user", "content": ""}]
_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def path(request: GenerationRequest) -> str:
    """The route that takes the request."""
    return _CHAT if _goes_to_chat(request) else "/v1/completions"


def _goes_to_chat(request: GenerationRequest) -> bool:
    if request.prompt_token_ids is None and request.raw_prompt is None:
        return True
    return request.grammar is not None or request.sampling.logprobs is not None


def body(request: GenerationRequest) -> bytes:
    """The JSON to send."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "model": request.model.engine_name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    _add_prompt(fields, request)
    if request.stop_token_ids:
        fields["stop_token_ids"] = request.stop_token_ids
    _add_sampling(fields, sampling)
    if _may_be_left(request):
        fields["return_token_ids"] = True
    if request.grammar is not None:
        fields["response_format"] = _response_format(request.grammar)
    if request.stream:
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
    return orjson.dumps(fields)


def _may_be_left(request: GenerationRequest) -> bool:
    """Whether a layer above may leave the stream before its end, and needs it counted there."""
    return bool(request.sampling.stop or request.prefix) or request.tool_use is not None


def _add_prompt(fields: dict[str, Any], request: GenerationRequest) -> None:
    prompt = (
        None
        if request.prompt_token_ids is None
        else orjson.Fragment(b"[%b]" % request.prompt_token_ids.json)
    )
    if not _goes_to_chat(request):
        fields["prompt"] = request.raw_prompt if prompt is None else prompt
    elif prompt is None:
        fields["messages"] = [_message(message) for message in request.messages]
    else:
        fields["prompt_tokens"], fields["messages"] = prompt, _NO_MESSAGES


def _add_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
    if sampling.max_tokens is not None:
        fields["max_tokens"] = sampling.max_tokens
    if sampling.seed is not None:
        fields["seed"] = (sampling.seed & _SEED_MASK) or _SEED_FOR_ZERO
    if sampling.stop:
        fields["stop"] = sampling.stop
    if sampling.frequency_penalty:
        fields["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        fields["presence_penalty"] = sampling.presence_penalty
    if sampling.logprobs is not None:
        # Asked for no alternatives, MAX does not tell of the tokens either.
        fields["logprobs"], fields["top_logprobs"] = True, max(sampling.logprobs, 1)


def _message(message: Message) -> dict[str, str]:
    # MAX asks for the call that a result belongs to; calls are written out as text here.
    role = "user" if message.role == "tool" else message.role
    return {"role": role, "content": "".join(message.parts)}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def read_answer(data: bytes, request: GenerationRequest) -> Chunk:
    """The one event of an answer that was not streamed.

    Raises UpstreamError where it is not an answer.
    """
    try:
        answer = orjson.loads(data)
        choice = answer["choices"][0]
        message = choice.get("message")
        text = choice["text"] if message is None else message["content"]
        return Chunk(
            text or "",
            _finish_reason(choice),
            _usage(answer["usage"]),
            logprobs=_logprobs(choice, request.sampling.logprobs),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamError("The engine's answer could not be read.") from error


class ChunkReader:
    """Reads the chunks of one stream, and counts for engines that do not.

    The first chunk carries the usage up to it. Where the stream may be left before its end,
    every chunk does. `finished` says that the answer has ended, `was_counted` that the engine has
    said how many tokens it took.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._keeps_ids = request.tool_use is not None
        self._always_counted = _may_be_left(request)
        self._alternatives = request.sampling.logprobs
        self._prompt_tokens = (
            0 if request.prompt_token_ids is None else request.prompt_token_ids.length
        )
        self._completion_tokens = 0
        self._frame: ChunkFrame | None = None
        self.finished = False
        self.was_counted = False

    @property
    def counted(self) -> Usage:
        """Tokens so far; a chunk that does not list its tokens counts as one."""
        return Usage(self._prompt_tokens, self._completion_tokens)

    def chunks(self, events: list[bytes]) -> Iterator[Chunk]:
        """What these events say that came together; `[DONE]` says nothing.

        Raises UpstreamError where one is an error or cannot be read.
        """
        while events and events[-1] == _DONE:
            events.pop()
        left = len(events)
        for event in events:
            left -= 1
            yield self.read(event, more=left > 0)

    def read(self, data: bytes, *, more: bool = False) -> Chunk:
        """The event in one `data` of the stream; `more` is passed on.

        Raises UpstreamError where it is an error or cannot be read.
        """
        text = None if self._frame is None else self._frame.text_of(data)
        if text is not None:
            self._completion_tokens += 1
            return Chunk(text, None, self.counted if self._always_counted else None, more)
        try:
            fields = orjson.loads(data)
            choices = fields.get("choices")
            if choices:
                return self._read_choice(choices[0], data, more)
            if "error" in fields:
                raise UpstreamError("The engine failed in the middle of its answer.")
            usage = fields.get("usage")
            if usage is None:
                return Chunk(has_more=more)
            self.was_counted = True
            return Chunk(usage=_usage(usage), has_more=more)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UpstreamError("A part of the engine's answer could not be read.") from error

    def _read_choice(self, choice: dict[str, Any], data: bytes, more: bool) -> Chunk:
        first = self._completion_tokens == 0
        if first and (prompt := choice.get("prompt_token_ids")):
            self._prompt_tokens = len(prompt)
        ids = choice.get("token_ids")
        self._completion_tokens += 1 if ids is None else len(ids)
        delta = choice.get("delta")
        text = choice["text"] if delta is None else delta.get("content")
        reason = choice.get("finish_reason")
        if self.finished:
            # After a stop string MAX goes on for a few tokens; only usage counts now.
            return Chunk(has_more=more)
        usage = self.counted if first or self._always_counted else None
        self._frame = None
        if reason is not None:
            self.finished = True
            reason = _FINISH_REASONS.get(reason, "stop")
        if self._keeps_ids or self._alternatives is not None:
            kept = tuple(ids or ()) if self._keeps_ids else ()
            logprobs = _logprobs(choice, self._alternatives)
            return Chunk(text or "", reason, usage, more, (), logprobs, 0, kept)
        if text and ids is None and delta is None and reason is None:
            self._frame = ChunkFrame.around(text, data)
        return Chunk(text or "", reason, usage, more)


def _finish_reason(choice: dict[str, Any]) -> FinishReason | None:
    reason = choice.get("finish_reason")
    return None if reason is None else _FINISH_REASONS.get(reason, "stop")


def _logprobs(choice: dict[str, Any], alternatives: int | None) -> tuple[TokenLogprob, ...]:
    if alternatives is None:
        return ()
    told = (choice.get("logprobs") or {}).get("content") or ()
    # The token that ends an answer has no text, and is not part of it.
    return tuple([_token_logprob(token, alternatives) for token in told if token["token"]])


def _token_logprob(token: dict[str, Any], alternatives: int) -> TokenLogprob:
    top = [
        Alternative(one["token"], one["logprob"]) for one in token["top_logprobs"][:alternatives]
    ]
    return TokenLogprob(token["token"], token["logprob"], tuple(top))


def _usage(fields: dict[str, Any]) -> Usage:
    details = fields.get("prompt_tokens_details") or {}
    return Usage(
        fields["prompt_tokens"], fields["completion_tokens"], details.get("cached_tokens") or 0
    )
