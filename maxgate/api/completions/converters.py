"""Convert OpenAI's completion request to one GenerationRequest per prompt."""

from typing import Final

from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.sampling import MAX_CHOICES, check_capabilities, contradiction, convert_sampling
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest

_DEFAULT_MAX_TOKENS: Final = 16


def convert_requests(
    body: CompletionRequest, model: ServedModel, context: RequestContext
) -> list[GenerationRequest]:
    """Convert a validated body.

    Raises InvalidRequest if fields contradict each other.
    """
    prompts = _list_prompts(body)
    n = body.n or 1
    if len(prompts) * n > MAX_CHOICES:
        raise contradiction("n", f"the number of prompts times 'n' must be at most {MAX_CHOICES}")
    prompt_logprobs = bool(body.echo) and body.logprobs is not None
    if prompt_logprobs:
        _check_prompt_logprobs(body, model)
    elif body.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise contradiction("echo", "without 'logprobs' it is only supported for text prompts")
    if body.parse_special is False and model.prompt == "engine":
        raise contradiction(
            "parse_special",
            "the engine encodes the prompts of this model and always parses special tokens",
        )
    sampling = convert_sampling(
        body, model, max_tokens=_convert_max_tokens(body), logprobs=body.logprobs
    )
    check_capabilities(sampling, model, logprobs_param="logprobs")
    return [
        GenerationRequest(
            model=model,
            messages=(),
            sampling=sampling,
            stream=bool(body.stream) and not prompt_logprobs,
            context=context,
            n=n,
            raw_prompt=prompt,
            running_usage=body.wants_running_usage,
            parse_special=model.parse_special if body.parse_special is None else body.parse_special,
            prompt_logprobs=prompt_logprobs,
            echo=bool(body.echo),
        )
        for prompt in prompts
    ]


def _convert_max_tokens(body: CompletionRequest) -> int:
    if body.max_tokens == 0 and not (body.echo and body.logprobs is not None):
        raise InvalidRequest(
            "Invalid value for 'max_tokens': it must be at least 1, unless 'echo' and 'logprobs' "
            "ask for the logprobs of the prompt.",
            param="max_tokens",
            code="integer_below_min_value",
        )
    return _DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens


def _list_prompts(body: CompletionRequest) -> list[str | tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [p if isinstance(p, str) else tuple(p) for p in prompt]


def _check_prompt_logprobs(body: CompletionRequest, model: ServedModel) -> None:
    # MAX without --enable-echo exits at the first such request, so this can't be probed.
    if not model.prompt_logprobs:
        raise InvalidRequest(
            "Unsupported parameter: 'echo' together with 'logprobs': this model is served without "
            "logprobs of prompt tokens, which loglikelihood tasks of lm-eval need. Its operator "
            "can set prompt_logprobs in the model card and start MAX with --enable-echo.",
            param="echo",
            code="unsupported_parameter",
        )
    if body.stop:
        raise contradiction("stop", "it is not supported together with 'echo' and 'logprobs'")
