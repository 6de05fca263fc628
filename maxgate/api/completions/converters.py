"""Convert OpenAI's completion request to one GenerationRequest per prompt."""

from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.sampling import MAX_CHOICES, check_capabilities, contradiction, convert_sampling
from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest


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
            n=n,
            raw_prompt=prompt,
        )
        for prompt in prompts
    ]


def _list_prompts(body: CompletionRequest) -> list[str | tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [p if isinstance(p, str) else tuple(p) for p in prompt]


def _check_echo(body: CompletionRequest, prompts: list[str | tuple[int, ...]]) -> None:
    if body.logprobs is not None:
        raise contradiction("echo", "it is not supported together with 'logprobs'")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise contradiction("echo", "it is only supported for text prompts")
