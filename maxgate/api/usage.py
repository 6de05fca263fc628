"""Tokens counted, as OpenAI shows them."""

from typing_extensions import TypedDict

from maxgate.generation.events import Usage


class PromptTokensDetails(TypedDict):
    """Of the prompt's tokens, those that the engine had in its prefix cache."""

    cached_tokens: int


class CompletionUsage(TypedDict):
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def completion_usage(usage: Usage) -> CompletionUsage:
    """What was counted, in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
