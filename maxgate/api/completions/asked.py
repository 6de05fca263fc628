"""OpenAI's completion request as ours, one for each prompt."""

from maxgate.api.abilities import check_abilities
from maxgate.api.completions.wire import CompletionRequest
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import GenerationRequest, Sampling
from maxgate.generation.trace import RequestTrace

_MOST_ANSWERS = 128


def generation_requests(
    body: CompletionRequest, model: ServedModel, trace: RequestTrace
) -> list[GenerationRequest]:
    """What is to be generated.

    Raises InvalidRequest where fields contradict each other.
    """
    prompts = _prompts(body)
    choices = body.n or 1
    if len(prompts) * choices > _MOST_ANSWERS:
        raise _contradiction("n", f"prompts times 'n' may be at most {_MOST_ANSWERS}")
    if body.echo:
        _check_echo(body, prompts)
    sampling = _sampling(body, model)
    check_abilities(sampling, model, logprobs_param="logprobs")
    return [
        GenerationRequest(
            model=model,
            messages=(),
            sampling=sampling,
            stream=bool(body.stream),
            trace=trace,
            choices=choices,
            text=prompt,
        )
        for prompt in prompts
    ]


def _prompts(body: CompletionRequest) -> list[str | tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [p if isinstance(p, str) else tuple(p) for p in prompt]


def _check_echo(body: CompletionRequest, prompts: list[str | tuple[int, ...]]) -> None:
    if body.logprobs is not None:
        raise _contradiction("echo", "together with 'logprobs' it is not served here")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise _contradiction("echo", "it is served for prompts that are text")


def _sampling(body: CompletionRequest, model: ServedModel) -> Sampling:
    if body.stream_options is not None and not body.stream:
        raise _contradiction("stream_options", "it is only allowed when 'stream' is true")
    defaults, stop = model.sampling, body.stop or ()
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        max_tokens=body.max_tokens,
        seed=body.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logprobs=body.logprobs,
    )


def _contradiction(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value"
    )
