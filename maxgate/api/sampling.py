"""Sampling parameters and token usage, shared by chat and text completions."""

from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

from maxgate.api.principals import ServiceTier
from maxgate.api.schemas import RequestBody
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Usage
from maxgate.generation.request import Sampling

MAX_CHOICES: Final = 128

TokenLimit = Annotated[int, Field(ge=1, lt=2**31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
# MAX divides logits by it, and values near 0 or infinity would make them infinite.
RepetitionPenalty = Annotated[float, Field(ge=0.01, le=100)]

StopString = Annotated[str, Field(min_length=1, max_length=1000)]
StopStrings = StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)]
"""At most four, as at OpenAI."""


class StreamOptions(RequestBody):
    """Options of a stream; it is never padded with `obfuscation`.

    With `continuous_usage_stats`, every event reports the usage so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Literal[False] | None = None


class SampledRequest(RequestBody):
    """A request for sampled text; null means the model card's default."""

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopStrings | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: ServiceTier | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    # Extensions that MAX, vLLM and others share.
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128, fail_fast=True)] | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    skip_special_tokens: Literal[True] | None = None
    include_stop_str_in_output: Literal[False] | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a usage event."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def wants_running_usage(self) -> bool:
        """Whether every event of the stream reports the usage so far."""
        options = self.stream_options
        return options is not None and bool(options.continuous_usage_stats)


def convert_sampling(
    body: SampledRequest, model: ServedModel, *, max_tokens: int | None, logprobs: int | None
) -> Sampling:
    """Convert sampling parameters, filling in the model's defaults.

    Raises InvalidRequest for fields that contradict each other.
    """
    if body.stream_options is not None and not body.stream:
        raise contradiction("stream_options", "it is only allowed when 'stream' is true")
    if body.wants_running_usage and not body.wants_usage:
        raise contradiction(
            "stream_options.continuous_usage_stats",
            "it is only allowed when 'include_usage' is true",
        )
    limit = model.context_length if max_tokens is None else max_tokens
    if body.min_tokens and body.min_tokens > limit:
        raise contradiction("min_tokens", f"it must not be above the token limit of {limit}")
    if body.stop_token_ids and body.ignore_eos:
        raise contradiction("stop_token_ids", "MAX ignores it when 'ignore_eos' is true")
    defaults, stop = model.sampling, body.stop or ()
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        max_tokens=max_tokens,
        seed=body.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logprobs=logprobs,
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        # Without an end of sequence, there is nothing to hold back.
        min_tokens=0 if body.ignore_eos else body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop_token_ids=tuple(body.stop_token_ids or ()),
    )


def contradiction(param: str, reason: str) -> InvalidRequest:
    """Build the error for a field that contradicts another one."""
    return InvalidRequest(
        f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value"
    )


MAX_TOP_LOGPROBS: Final = 7
_NEUTRAL_PENALTIES: Final = {
    "frequency_penalty": (0.0,),
    "presence_penalty": (0.0,),
    "repetition_penalty": (None, 1.0),
}


def check_capabilities(sampling: Sampling, model: ServedModel, *, logprobs_param: str) -> None:
    """Reject parameters that the engine ignores or rejects without a useful error.

    Raises InvalidRequest that names the field and the flag the operator can set.
    """
    capabilities = model.capabilities
    if capabilities.penalties is False:
        for field, neutral in _NEUTRAL_PENALTIES.items():
            if getattr(sampling, field) not in neutral:
                raise _unsupported(field, "--enable-penalties")
    if sampling.min_tokens and capabilities.min_tokens is False:
        raise _unsupported("min_tokens", "--enable-min-tokens")
    if sampling.logprobs is None:
        return
    if capabilities.logprobs is False:
        raise _unsupported("logprobs", "--no-enable-overlap-scheduler")
    if sampling.logprobs > MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"Invalid value for '{logprobs_param}': the engine returns at most "
            f"{MAX_TOP_LOGPROBS} alternatives.",
            param=logprobs_param,
            code="integer_above_max_value",
        )


def _unsupported(field: str, flag: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{field}': this model's engine does not support it. The operator "
        f"can start MAX with {flag}.",
        param=field,
        code="unsupported_parameter",
    )


class PromptTokensDetails(TypedDict):
    """Prompt tokens that were in the engine's prefix cache."""

    cached_tokens: int


class CompletionUsage(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def completion_usage(usage: Usage) -> CompletionUsage:
    """Convert token counts to OpenAI's shape."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
