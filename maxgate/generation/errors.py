"""Errors that several capabilities raise about models, context length and generated output."""

import math

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    UpstreamError,
    UpstreamUnavailable,
)


class ModelNotFound(NotFound):
    """No served model has this name."""

    default_code = "model_not_found"

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= 100 else name[:100] + "..."
        super().__init__(
            f"The model {shown!r} does not exist here. GET /v1/models lists the models.",
            param="model",
        )


class ModelNotRunning(UpstreamUnavailable):
    """The model is known and not ready for requests; those that can wait do so."""

    default_code = "model_not_running"

    def __init__(self, model: str, *, retry_after: float = 1.0) -> None:
        super().__init__(
            f"The model {model!r} is not running. Retry in about {math.ceil(retry_after)} s.",
            param="model",
            retry_after=retry_after,
        )
        self.model = model


class ModelStartFailed(UpstreamUnavailable):
    """The model could not be started; after a pause, a request starts it again."""

    default_code = "model_start_failed"

    def __init__(self, model: str, cause: str, *, retry_after: int) -> None:
        super().__init__(
            f"The model {model!r} could not be started: {cause}. It is started again for a "
            f"request after {retry_after} s.",
            param="model",
            retry_after=retry_after,
        )


class WrongModelForTask(InvalidRequest):
    """The model is served, but for another task."""

    default_code = "unsupported_value"

    def __init__(self, name: str, *, task: str, requested: str) -> None:
        super().__init__(
            f"The model {name!r} is for {task} and does not support {requested}. "
            "GET /v1/models lists the models.",
            param="model",
        )


class ContextLengthExceeded(InvalidRequest):
    """Prompt and response do not fit into the model's context."""

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
    """An input does not fit into the embedding model's context; `index` is its position."""

    default_code = "context_length_exceeded"

    def __init__(self, *, limit: int, tokens: int, index: int, exact: bool = True) -> None:
        count = f"{tokens}" if exact else f"at least {tokens}"
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, input[{index}] "
            f"has {count} tokens, special tokens included. Split it into shorter texts.",
            param="input",
        )


class OutputValidationFailed(UpstreamError):
    """No attempt produced valid output."""

    # OpenAI's SDKs would otherwise send the request twice more, with as many attempts each.
    should_retry = False


class UsageUnavailable(GatewayError):
    """The usage of a request could not be recorded: there is no room for it."""

    status = 503
    default_code = "usage_unavailable"
    should_retry = True

    def __init__(self) -> None:
        super().__init__(
            "The gateway cannot record the usage of requests at the moment. Retry the request "
            "in a moment.",
            retry_after=2,
        )
