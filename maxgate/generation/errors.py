"""Errors that several capabilities raise about models, context length and generated output."""

from maxgate.errors import InvalidRequest, NotFound, UpstreamError


class ModelNotFound(NotFound):
    """The model is not served here."""

    default_code = "model_not_found"

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= 100 else name[:100] + "..."
        super().__init__(
            f"The model {shown!r} does not exist here. GET /v1/models lists the models.",
            param="model",
        )


class WrongModelForTask(InvalidRequest):
    """The model is served, and does something else."""

    default_code = "unsupported_value"

    def __init__(self, name: str, *, does: str, asked: str) -> None:
        super().__init__(
            f"The model {name!r} is for {does}; it cannot be asked for {asked}. "
            "GET /v1/models lists the models.",
            param="model",
        )


class ContextLengthExceeded(InvalidRequest):
    """Prompt and answer do not fit into the model's context."""

    default_code = "context_length_exceeded"

    def __init__(
        self,
        *,
        limit: int,
        prompt_tokens: int,
        max_tokens: int | None,
        param: str = "messages",
        exact: bool = True,
    ) -> None:
        if max_tokens is None:
            count = f"{prompt_tokens}" if exact else f"at least {prompt_tokens}"
            asked = f"your {param} resulted in {count} tokens"
        else:
            asked = (
                f"you requested {prompt_tokens + max_tokens} tokens "
                f"({prompt_tokens} in the {param}, {max_tokens} in the completion)"
            )
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, {asked}. "
            f"Please reduce the length of the {param} or completion.",
            param=param,
        )


class InputTooLong(InvalidRequest):
    """A text to be embedded does not fit into the model's context; `index` is its place."""

    default_code = "context_length_exceeded"

    def __init__(self, *, limit: int, tokens: int, index: int, exact: bool = True) -> None:
        count = f"{tokens}" if exact else f"at least {tokens}"
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, input[{index}] "
            f"has {count} tokens, special tokens included. Please split it into shorter texts.",
            param="input",
        )


class OutputValidationFailed(UpstreamError):
    """The model was asked several times, and no answer was what it had to be."""

    def headers(self) -> dict[str, str]:
        """OpenAI's SDKs would send it twice again, for as many tries each."""
        return {"x-should-retry": "false"}
