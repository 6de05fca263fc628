"""Continue a response at another replica, token by token, after its engine has failed.

The prompt is extended by the ids that the engine has generated, never by their text: encoding the
text again may give other tokens. docs/failures.md lists what cannot be continued exactly.
"""

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Usage
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.errors import EngineUnreachable


def can_continue(request: GenerationRequest) -> bool:
    """Whether the response to a request can be continued exactly.

    A grammar has state that a new engine call lacks, and penalties count the generated tokens,
    which a new call takes for the prompt.
    """
    sampling = request.sampling
    return (
        request.stream
        and request.prompt_token_ids is not None
        and request.grammar is None
        and not sampling.frequency_penalty
        and not sampling.presence_penalty
        and sampling.repetition_penalty in {None, 1.0}
    )


class Continuation:
    """The tokens of a response so far, and the request for the rest of it.

    Tokens count once their text has been passed on. Those of an incomplete character are
    generated again.
    """

    def __init__(self, request: GenerationRequest, max_tokens: int | None, attempts: int) -> None:
        """`max_tokens` is the limit of the whole response, `attempts` the number of moves."""
        self._request = request
        self._max_tokens = max_tokens
        self._attempts = attempts
        self._ids: list[bytes] = []
        self._pending: list[bytes] = []
        self._pending_count = 0
        self._count_before = -1
        self._stuck = False
        self.count = 0
        self.is_complete = False

    def add(self, ids: bytes, count: int, *, shown: bool) -> None:
        """Add ids, in the form of `TokenIds.json`; `shown` if their text is passed on.

        After text without ids, the response can no longer be continued.
        """
        if shown and ids and not self._pending:  # nearly always
            self._ids.append(ids)
            self.count += count
            return
        if not ids:
            self._attempts = 0
            return
        self._pending.append(ids)
        self._pending_count += count
        if shown:
            self._ids += self._pending
            self.count += self._pending_count
            self._drop_pending()

    def resume(self, error: GatewayError) -> GenerationRequest | None:
        """Return the request for the rest, or None if the error ends the response.

        Sets `is_complete` instead if the response has all its tokens and only lacks its end.
        """
        is_refusal = isinstance(error, InvalidRequest) and error.code == "content_filter"
        is_stuck = self.count == self._count_before and _has_tried(error)
        # A response that fails twice at the same token would fail there again.
        if is_refusal or self._attempts <= 0 or (self._stuck and is_stuck):
            return None
        if not (isinstance(error, EngineUnreachable) and error.is_connect_failure):
            self._attempts -= 1
        if self.count != self._count_before:
            self._stuck, self._count_before = False, self.count
        self._stuck = self._stuck or is_stuck
        self._drop_pending()
        request, sampling = self._request, self._request.sampling
        prompt = request.prompt_token_ids
        assert prompt is not None  # noqa: S101  # see can_continue
        if self._max_tokens is not None:
            remaining = self._max_tokens - self.count
            if remaining <= 0:
                self.is_complete = True
                return None
            sampling = sampling._replace(max_tokens=remaining)
        if sampling.min_tokens:
            sampling = sampling._replace(min_tokens=max(sampling.min_tokens - self.count, 0))
        generated = TokenIds(b",".join(self._ids), self.count)
        return request._replace(
            prompt_token_ids=TokenIds.join([prompt, generated]), sampling=sampling
        )

    @property
    def usage(self) -> Usage:
        """Usage of a response that is complete."""
        prompt = self._request.prompt_token_ids
        return Usage(0 if prompt is None else prompt.length, self.count)

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._pending_count = 0


def _has_tried(error: GatewayError) -> bool:
    """Whether the engine that failed may have tried to generate the next token."""
    if isinstance(error, EngineUnreachable):
        return error.failure == "disconnect"
    refusals = (InvalidRequest, UpstreamOverloaded, UpstreamTimeout, UpstreamUnavailable)
    return not isinstance(error, refusals)
