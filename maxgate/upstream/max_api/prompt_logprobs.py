"""Completions with the logprobs of the prompt: `echo` with `logprobs` on MAX's `/v1/completions`.

MAX needs `--enable-echo`: without it, such a request ends the engine. MAX reports one list for
prompt and response, without the first token of the prompt, and without token texts. Tokens that the
prefix cache holds are missing, so MAX also needs `--no-enable-prefix-caching`.
"""

from collections.abc import Sequence
from typing import Any

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, FinishReason, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest


def add_prompt_logprobs(fields: dict[str, Any], request: GenerationRequest) -> None:
    """Add the fields that ask for logprobs of the prompt."""
    fields["echo"] = fields["return_token_ids"] = True
    # With 0 alternatives MAX does not report the tokens either, and it always generates one.
    fields["logprobs"] = max(request.sampling.logprobs or 0, 1)
    fields["max_tokens"] = max(request.sampling.max_tokens or 0, 1)


def parse_prompt_logprobs(
    choice: dict[str, Any],
    finish_reason: FinishReason | None,
    usage: Usage,
    request: GenerationRequest,
) -> Chunk:
    """Return the chunk with the logprobs of prompt and response.

    `prompt_logprobs` starts at the second token. With `max_tokens` 0, the token that MAX generates
    all the same is left out.

    Raises UpstreamError if logprobs are missing; KeyError or TypeError if the choice is invalid.
    """
    prompt = [] if request.prompt_token_ids is None else request.prompt_token_ids.to_list()
    ids = [*prompt[1:], *(choice.get("token_ids") or ())]
    reported = choice["logprobs"]
    logprobs, tops = reported["token_logprobs"], reported["top_logprobs"]
    if not len(logprobs) == len(tops) == len(ids):
        raise UpstreamError(
            f"The engine returned logprobs of {len(logprobs)} tokens in place of {len(ids)}. Its "
            "operator can start MAX with --enable-echo and --no-enable-prefix-caching."
        )
    tokens = _parse_tokens(ids, logprobs, tops, alternatives=request.sampling.logprobs or 0)
    last = max(len(prompt) - 1, 0)
    if request.sampling.max_tokens == 0:
        usage = usage._replace(completion=0)
        return Chunk("", "length", usage, prompt_logprobs=tokens[:last])
    # The token that ends a response has no text and is not part of it.
    generated = tuple([token for token in tokens[last:] if token.token])
    return Chunk(
        choice["text"], finish_reason, usage, logprobs=generated, prompt_logprobs=tokens[:last]
    )


def _parse_tokens(
    ids: Sequence[int],
    logprobs: Sequence[float],
    tops: Sequence[dict[str, float]],
    *,
    alternatives: int,
) -> tuple[TokenLogprob, ...]:
    tokens = []
    for token_id, logprob, top in zip(ids, logprobs, tops, strict=True):
        # The token itself is always among its alternatives, with the same number.
        text = next((text for text, value in top.items() if value == logprob), "")
        known = tuple([Alternative(*item) for item in top.items()]) if alternatives else ()
        tokens.append(TokenLogprob(text, logprob, known, token_id))
    return tuple(tokens)
