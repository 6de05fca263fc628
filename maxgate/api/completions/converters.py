"""OpenAI's completion request as ours, one for each prompt."""

from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.sampling import MOST_ANSWERS, check_abilities, contradiction, sampling_of
from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import GenerationRequest
from maxgate.generation.request_record import RequestTrace


def generation_requests(
    body: CompletionRequest, model: ServedModel, trace: RequestTrace
) -> list[GenerationRequest]:
    """What is to be generated.

    Raises InvalidRequest where fields contradict each other.
    """
    prompts = _prompts(body)
    choices = body.n or 1
    if len(prompts) * choices > MOST_ANSWERS:
        raise contradiction("n", f"prompts times 'n' may be at most {MOST_ANSWERS}")
    if body.echo:
        _check_echo(body, prompts)
    sampling = sampling_of(body, model, max_tokens=body.max_tokens, logprobs=body.logprobs)
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
        raise contradiction("echo", "together with 'logprobs' it is not served here")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise contradiction("echo", "it is served for prompts that are text")
