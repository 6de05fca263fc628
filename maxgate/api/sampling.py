"""Sampling parameters, shared by chat and text completions."""

from typing import Annotated, Final, Literal

from pydantic import Field

from maxgate.api.schemas import RequestBody
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import Sampling

MAX_CHOICES: Final = 128

TokenLimit = Annotated[int, Field(ge=1, lt=2**31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

StopString = Annotated[str, Field(min_length=1, max_length=1000)]
StopStrings = StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)]
"""At most four, as at OpenAI."""


class StreamOptions(RequestBody):
    """Options of a stream; it is never padded with `obfuscation`."""

    include_usage: bool | None = None
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

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a usage event."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def convert_sampling(
    body: SampledRequest, model: ServedModel, *, max_tokens: int | None, logprobs: int | None
) -> Sampling:
    """Convert sampling parameters, filling in the model's defaults.

    Raises InvalidRequest for stream options without a stream.
    """
    if body.stream_options is not None and not body.stream:
        raise contradiction("stream_options", "it is only allowed when 'stream' is true")
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
    )


def contradiction(param: str, reason: str) -> InvalidRequest:
    """Build the error for a field that contradicts another one."""
    return InvalidRequest(
        f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value"
    )


MAX_TOP_LOGPROBS: Final = 7


def check_capabilities(sampling: Sampling, model: ServedModel, *, logprobs_param: str) -> None:
    """Reject parameters that the engine ignores or rejects without a useful error.

    Raises InvalidRequest that names the field and the flag the operator can set.
    """
    capabilities = model.capabilities
    if capabilities.penalties is False:
        for field in ("frequency_penalty", "presence_penalty"):
            if getattr(sampling, field):
                raise _unsupported(field, "--enable-penalties")
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
