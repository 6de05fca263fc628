"""Requests for layers and backends, with defaults for everything a test does not care about."""

from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest, Message, Sampling, TokenIds
from maxgate.generation.request_record import RequestRecord
from maxgate.model_cards.card import PromptFormat, SamplingDefaults


def served_model(
    name: str = "small",
    *,
    prompt: PromptFormat = "chatml",
    context_length: int = 100,
    max_tokens: int | None = None,
) -> ServedModel:
    """Make a model that an engine serves."""
    sampling = SamplingDefaults(max_tokens=max_tokens)
    return ServedModel(name, f"{name}-on-max", prompt, context_length, 1, sampling)


def request_context() -> RequestContext:
    """Make the context of a request that has just arrived."""
    return RequestContext(RequestRecord("req_1", "POST", "/v1/chat/completions", started_at=1000.0))


def generation_request(
    *texts: str,
    stream: bool = False,
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
    seed: int | None = None,
    prompt: TokenIds | None = None,
    model: ServedModel | None = None,
) -> GenerationRequest:
    """Make a request with one user message per text."""
    return GenerationRequest(
        model=model or served_model(),
        messages=tuple(Message("user", (text,)) for text in texts or ("Hello",)),
        sampling=Sampling(1.0, 1.0, max_tokens=max_tokens, seed=seed, stop=stop),
        stream=stream,
        context=request_context(),
        prompt_token_ids=prompt,
    )
