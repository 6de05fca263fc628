"""Tokens counted, as OpenAI shows them."""

from dataclasses import dataclass

from maxgate.generation.events import Usage


@dataclass(frozen=True, slots=True)
class PromptTokensDetails:
    """Of the prompt's tokens, those that the engine had in its prefix cache."""

    cached_tokens: int


@dataclass(frozen=True, slots=True)
class CompletionUsage:
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def completion_usage(usage: Usage) -> CompletionUsage:
    """What was counted, in OpenAI's words."""
    return CompletionUsage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens_details=PromptTokensDetails(usage.cached),
    )
