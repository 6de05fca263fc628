"""Variables of a chat template, `chat_template_kwargs`, for engines that format the prompt."""

from collections.abc import Mapping
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel

# Arguments of transformers' apply_chat_template, which receives the variables: `chat_template`
# would run a template from the client inside the engine.
_ARGUMENTS: Final = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
# The gateway's own formats have no variables; these values ask for nothing that they do not do.
_NEUTRAL: Final[Mapping[str, Any]] = {"enable_thinking": False, "thinking": False}


def convert_template_variables(
    variables: Mapping[str, Any], model: ServedModel
) -> Mapping[str, Any] | None:
    """Return the variables for the engine's template, or None if the gateway formats the prompt.

    Raises InvalidRequest for variables without effect, and for names that are not variables.
    """
    for name, value in variables.items():
        if name in _ARGUMENTS:
            raise _unsupported(name, "it is an argument of the renderer, not a variable")
        if model.prompt != "engine" and not (name in _NEUTRAL and value is _NEUTRAL[name]):
            raise _unsupported(
                name,
                "the gateway formats the prompts of this model, and its format has no variables; "
                "the operator can set 'prompt: engine' in the model card",
            )
    return variables if model.prompt == "engine" else None


def _unsupported(name: str, reason: str) -> InvalidRequest:
    param = f"chat_template_kwargs.{name}"[:200]
    return InvalidRequest(
        f"Unsupported parameter: '{param}': {reason}.", param=param, code="unsupported_parameter"
    )
