"""OpenAI's completion request as ours, one for each prompt."""

from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.sampling import MAX_CHOICES, check_capabilities, contradiction, convert_sampling
from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest


def generation_requests(
    body: CompletionRequest, model: ServedModel, context: RequestContext
) -> list[GenerationRequest]:
    """What is to be generated.

    Raises InvalidRequest where fields contradict each other.
    """
    prompts = _prompts(body)
    choices = body.n or 1
    if len(prompts) * choices > MAX_CHOICES:
        raise contradiction("n", f"prompts times 'n' may be at most {MAX_CHOICES}")
    if body.echo:
        _check_echo(body, prompts)
    sampling = convert_sampling(body, model, max_tokens=body.max_tokens, logprobs=body.logprobs)
    check_capabilities(sampling, model, logprobs_param="logprobs")
    return [
        GenerationRequest(
            model=model,
            messages=(),
            sampling=sampling,
            stream=bool(body.stream),
            context=context,
            n=choices,
            raw_prompt=prompt,
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
