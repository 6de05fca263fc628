"""Base errors. Errors that belong to one capability live beside it.

    MaxgateError
    ├── ConfigurationError
    │   └── ReportError  results.files
    ├── EngineError
    │   └── ModelListError  upstream.max_api.models
    ├── GatewayError 500
    │   ├── HeadersTooLarge 431
    │   ├── InternalError 500
    │   ├── InvalidRequest 400
    │   │   ├── ContextLengthExceeded 400  generation.errors
    │   │   ├── InputTooLong 400  generation.errors
    │   │   └── WrongModelForTask 400  generation.errors
    │   ├── MethodNotAllowed 405
    │   ├── NotFound 404
    │   │   └── ModelNotFound 404  generation.errors
    │   ├── RequestTimeout 408
    │   ├── RequestTooLarge 413
    │   ├── UnsupportedMediaType 415
    │   ├── UpstreamError 502
    │   │   └── OutputValidationFailed 502  generation.errors
    │   │       ├── StructuredOutputFailed 502  structured_output.layer
    │   │       └── ToolCallFailed 502  tool_calling.strict
    │   ├── UpstreamOverloaded 503
    │   ├── UpstreamTimeout 504
    │   └── UpstreamUnavailable 503
    │       └── EngineUnreachable 503  upstream.errors
    ├── Interrupted  cli.run
    ├── ModelFileError  gguf.errors
    ├── ServerUnreachable  loadtest.client.client
    └── WorkerDied  loadtest.worker_pool

Only `api/errors.py` renders a GatewayError as a response; adapters translate foreign exceptions
where they occur. Statuses, types and codes follow OpenAI's error catalogue.
"""

from typing import ClassVar


class MaxgateError(Exception):
    """Root of the tree; its message is written for users."""


class ConfigurationError(MaxgateError):
    """A setting, flag, card or port is invalid; the message names it and the way out."""


class EngineError(MaxgateError):
    """MAX could not be started or has exited; the message names the cause if it is known."""


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


class NotFound(GatewayError):
    """No such route or object."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


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
