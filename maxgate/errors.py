"""Everything that can go wrong, once.

    MaxgateError
    ├── ConfigurationError          the operator's: one line on stderr, exit code 2
    ├── ModelFileError              a model file that cannot be used, and why
    ├── EngineError                 MAX did not start or did not stay up, and why
    └── GatewayError                a client's answer: status, type, code, param
        ├── InvalidRequest          400
        │   ├── ContextLengthExceeded
        │   ├── InputTooLong
        │   └── WrongModelForTask
        ├── NotFound                404
        │   └── ModelNotFound
        ├── MethodNotAllowed        405
        ├── RequestTimeout          408
        ├── RequestTooLarge         413
        ├── UnsupportedMediaType    415
        ├── HeadersTooLarge         431
        ├── InternalError           500
        ├── UpstreamError           502
        │   └── NothingFits         after several tries
        │       ├── StructuredOutputFailed
        │       └── ToolCallFailed
        ├── UpstreamUnavailable     503, with Retry-After
        ├── UpstreamOverloaded      503, with Retry-After
        └── UpstreamTimeout         504

Below the HTTP edge these are raised; only `api/errors.py` turns them into bytes. Adapters translate
foreign exceptions where they meet them. Statuses, types and codes follow OpenAI's error catalogue.
"""

from typing import ClassVar


class MaxgateError(Exception):
    """Root of the tree; its text is fit to be read by a person."""


class ConfigurationError(MaxgateError):
    """A setting, flag, card or port that cannot work; the text says which and what to do."""


class ModelFileError(MaxgateError):
    """A model file that is broken, incomplete or of a kind that MAX cannot serve."""


class EngineError(MaxgateError):
    """MAX could not be started or has died; the text names the cause when it is known."""


class GatewayError(MaxgateError):
    """What a client is told.

    `param` names the request field at fault, as a path such as `messages[0].content`.
    `retry_after` is in seconds; where it is set the client may try again.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


class InvalidRequest(GatewayError):
    """The request is wrong as it stands; sending it again cannot help."""

    status = 400
    type = "invalid_request_error"


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


class WrongModelForTask(InvalidRequest):
    """The model is served, and does something else."""

    default_code = "unsupported_value"

    def __init__(self, name: str, *, does: str, asked: str) -> None:
        super().__init__(
            f"The model {name!r} is for {does}; it cannot be asked for {asked}. "
            "GET /v1/models lists the models.",
            param="model",
        )


class NotFound(GatewayError):
    """No such route or object."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFound(NotFound):
    """The model is not served here."""

    default_code = "model_not_found"

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= 100 else name[:100] + "..."
        super().__init__(
            f"The model {shown!r} does not exist here. GET /v1/models lists the models.",
            param="model",
        )


class MethodNotAllowed(GatewayError):
    """The route exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_supported"

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        """The methods that there are."""
        return {"allow": self._allowed}


class RequestTimeout(GatewayError):
    """The body of the request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class RequestTooLarge(GatewayError):
    """The body is over the limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMediaType(GatewayError):
    """The body is of a kind or an encoding that is not read here."""

    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class HeadersTooLarge(GatewayError):
    """The request's first line and headers are over the limit."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class InternalError(GatewayError):
    """A bug here; the text never carries its details."""

    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The gateway failed to process the request. The logs have the details.")


class UpstreamError(GatewayError):
    """The engine answered with something that is not an answer."""

    status = 502
    default_code = "upstream_error"


class NothingFits(UpstreamError):
    """The model was asked several times, and no answer was what it had to be."""

    def headers(self) -> dict[str, str]:
        """OpenAI's SDKs would send it twice again, for as many tries each."""
        return {"x-should-retry": "false"}


class StructuredOutputFailed(NothingFits):
    """The model gave no JSON that fits, however often it was asked."""

    default_code = "structured_output_failed"

    def __init__(self, *, tries: int, cut: bool) -> None:
        reason = (
            "the answer did not fit into 'max_tokens'" if cut else "no answer fitted the schema"
        )
        super().__init__(
            f"The model did not produce the JSON that 'response_format' asks for: {reason} "
            f"(tries: {tries}).",
            param="response_format",
        )


class ToolCallFailed(NothingFits):
    """The model called a strict tool with arguments that do not fit, however often it was asked."""

    default_code = "tool_call_failed"

    def __init__(self, name: str, *, tries: int) -> None:
        super().__init__(
            f"The model called '{name}', which is strict, with arguments that do not fit its "
            f"parameters (tries: {tries}).",
            param="tools",
        )


class UpstreamUnavailable(GatewayError):
    """No engine could be reached, or it went away before it answered."""

    status = 503
    default_code = "upstream_unavailable"


class UpstreamOverloaded(GatewayError):
    """The engine refused for lack of room."""

    status = 503
    default_code = "server_is_overloaded"


class UpstreamTimeout(GatewayError):
    """The engine was silent for too long."""

    status = 504
    default_code = "upstream_timeout"
