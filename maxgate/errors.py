"""Base errors. Errors that belong to one capability live beside it.

    MaxgateError
    ├── AdminRequestFailed  cli.admin_client
    ├── AlreadyExists  stores.identity
    ├── ConfigurationError
    │   ├── InvalidSettings  settings_names
    │   ├── ReportError  results.files
    │   ├── SchemaMismatch  stores.migrate
    │   └── WrongPepper  auth.pepper_check
    ├── CountersUnavailable  limits.table
    ├── DrillFailed  drill.scratch
    ├── EngineError
    │   ├── InvalidMetrics  upstream.engine_metrics
    │   └── ModelListError  upstream.max_api.models
    ├── GatewayError 500
    │   ├── AuthenticationRequired 503  auth.identity
    │   ├── AuthenticationUnavailable 503  auth.identity
    │   ├── ChangesNotSaved 500  control_plane.errors
    │   ├── Conflict 409
    │   ├── DatabaseUnavailable 503  auth.organization.errors
    │   ├── DeadlineExceeded 504
    │   ├── Forbidden 403
    │   │   ├── NoAdminAccess 403  auth.identity
    │   │   └── NoModelAccess 403  auth.identity
    │   ├── HeadersTooLarge 431
    │   ├── IdempotencyKeyReused 409  auth.organization.errors
    │   ├── InternalError 500
    │   ├── InvalidCredential 401  auth.identity
    │   ├── InvalidRequest 400
    │   │   ├── ContentBlocked 400  guardrails.errors
    │   │   ├── ContextLengthExceeded 400  generation.errors
    │   │   ├── InputTooLong 400  generation.errors
    │   │   ├── TooManyTokens 400  limits.errors
    │   │   ├── UncheckedPrompt 400  guardrails.errors
    │   │   └── WrongModelForTask 400  generation.errors
    │   ├── LimitExceeded 429  limits.errors
    │   │   ├── QuotaExhausted 429  limits.errors
    │   │   └── RateLimitExceeded 429  limits.errors
    │   │       └── TokenLimitExceeded 429  limits.errors
    │   ├── MethodNotAllowed 405
    │   ├── NoReply 504  control_plane.errors
    │   ├── NoWorker 503
    │   ├── NotConfirmed 504  control_plane.errors
    │   ├── NotFound 404
    │   │   └── ModelNotFound 404  generation.errors
    │   ├── NotSupported 501
    │   │   └── ChangesNotSupported 501  control_plane.errors
    │   ├── OutOfResources 503
    │   ├── ParentUnreachable 503  control_plane.errors
    │   ├── PreconditionFailed 412  auth.organization.errors
    │   ├── Refused 500  admission.errors
    │   │   ├── QueueTimeout 503  admission.errors
    │   │   ├── ServerOverloaded 503  admission.errors
    │   │   └── TenantQueueFull 429  admission.errors
    │   ├── RequestInProgress 409  auth.organization.errors
    │   ├── RequestTimeout 408
    │   ├── RequestTooLarge 413
    │   ├── ShuttingDown 503
    │   ├── TooManyFailures 429  auth.identity
    │   ├── UnsupportedMediaType 415
    │   ├── UpstreamError 502
    │   │   ├── EngineDisconnected 502  upstream.errors
    │   │   └── OutputValidationFailed 502  generation.errors
    │   │       ├── StructuredOutputFailed 502  structured_output.layer
    │   │       └── ToolCallFailed 502  tool_calling.strict
    │   ├── UpstreamOverloaded 503
    │   │   └── ConnectionsInUse 503  upstream.errors
    │   ├── UpstreamTimeout 504
    │   ├── UpstreamUnavailable 503
    │   │   ├── EngineUnreachable 503  upstream.errors
    │   │   ├── GuardrailUnavailable 503  guardrails.errors
    │   │   ├── ModelNotRunning 503  generation.errors
    │   │   └── ModelStartFailed 503  generation.errors
    │   └── UsageUnavailable 503  generation.errors
    ├── Interrupted  cli.run
    ├── LedgerUnavailable  admission.ledger
    ├── ModelFileError  gguf.errors
    ├── ProviderUnavailable  auth.jwks
    ├── RedisUnavailable  stores.redis
    ├── RestartFailed  cli.restart
    ├── ServerUnreachable  loadtest.client.client
    ├── StoreUnavailable  stores.identity
    ├── UnknownCursor  stores.identity
    ├── UsageRejected  stores.usage
    ├── VersionConflict  stores.identity
    └── WorkerDied  loadtest.worker_pool

Only `api/errors.py` renders a GatewayError as a response; adapters translate foreign exceptions
where they occur. Statuses, types and codes follow OpenAI's error catalogue.
"""

import math
import traceback
from typing import ClassVar, Self


class StackTrace(str):
    """The stack trace of an error as text for the log, which may also write it as data.

    It lacks the variables of each frame, which structlog would print: they hold prompts and keys.
    """

    __slots__ = ("error",)
    error: BaseException

    def __new__(cls, error: BaseException) -> Self:
        """Format the stack trace of the error and of its causes."""
        text = super().__new__(cls, "".join(traceback.format_exception(error)))
        text.error = error
        return text


class MaxgateError(Exception):
    """Root of the tree; its message is written for users."""


class ConfigurationError(MaxgateError):
    """A setting, flag, card or port is invalid; the message names it and the way out."""


class EngineError(MaxgateError):
    """MAX could not be started or has exited; the message names the cause if it is known."""


class GatewayError(MaxgateError):
    """An error response.

    `param` is the path of the request field at fault, such as `messages[0].content`.
    `retry_after` is in seconds, not negative; if it is set, the client may retry. `should_retry`
    tells OpenAI's SDKs whether to retry; None leaves it to the status.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        """Return the headers of the response.

        `retry-after` is in whole seconds (RFC 9110, section 10.2.3), `retry-after-ms` in whole
        milliseconds; OpenAI's SDKs prefer the latter. Both are rounded up and at least 1.
        """
        headers = {}
        if self.retry_after is not None:
            milliseconds = max(math.ceil(round(self.retry_after * 1000, 3)), 1)
            headers["retry-after"] = str(math.ceil(milliseconds / 1000))
            headers["retry-after-ms"] = str(milliseconds)
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers


class InvalidRequest(GatewayError):
    """The request is invalid; retrying cannot help."""

    status = 400
    type = "invalid_request_error"
    should_retry = False


class Forbidden(GatewayError):
    """The client, such as a web page of another site, must not use this part of the gateway."""

    status = 403
    type = "invalid_request_error"
    default_code = "forbidden"


class NotFound(GatewayError):
    """The path or object does not exist."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(GatewayError):
    """The path exists, but not with this method."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_supported"

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        """The methods that there are."""
        return {"allow": self._allowed}


class Conflict(GatewayError):
    """The request contradicts the present state."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class NotSupported(GatewayError):
    """The gateway cannot do that, or not as it was started; retrying cannot help."""

    status = 501
    default_code = "not_supported"


class RequestTimeout(GatewayError):
    """The request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class RequestTooLarge(GatewayError):
    """The request body exceeds a limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMediaType(GatewayError):
    """The content type or encoding of the body is not supported."""

    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class HeadersTooLarge(GatewayError):
    """The request line and headers exceed the limit."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class InternalError(GatewayError):
    """A bug in the gateway; the text never reveals details."""

    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The gateway failed to process the request. The logs have the details.")


class ShuttingDown(GatewayError):
    """The gateway stops and has waited long enough for the request."""

    status = 503
    default_code = "server_shutting_down"
    should_retry = True

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down. Retry the request.", retry_after=5)


class NoWorker(GatewayError):
    """No worker of the gateway can start; the parent process tries again."""

    status = 503
    default_code = "no_worker"
    should_retry = True

    def __init__(self) -> None:
        super().__init__(
            "No worker of the gateway can start; its log has the reason. Correct the "
            "configuration: the gateway tries again by itself.",
            retry_after=5,
        )


class OutOfResources(GatewayError):
    """The gateway has no file descriptors, ports or memory left; no engine is at fault."""

    status = 503
    default_code = "gateway_out_of_resources"
    should_retry = True

    def __init__(self, resource: str) -> None:
        super().__init__(
            f"The gateway is out of {resource}. Try again shortly.",
            retry_after=2,
        )


class DeadlineExceeded(GatewayError):
    """The time that the client allows for the request is up."""

    status = 504
    default_code = "deadline_exceeded"
    should_retry = False


class UpstreamError(GatewayError):
    """The engine failed, or its response is invalid."""

    status = 502
    default_code = "upstream_error"
    should_retry = True


class UpstreamUnavailable(GatewayError):
    """No engine is reachable, or the connection was lost before a response."""

    status = 503
    default_code = "upstream_unavailable"
    should_retry = True


class UpstreamOverloaded(GatewayError):
    """The engine refused because it is at capacity."""

    status = 503
    default_code = "server_is_overloaded"
    should_retry = True


class UpstreamTimeout(GatewayError):
    """The engine exceeded a timeout."""

    status = 504
    default_code = "upstream_timeout"
    should_retry = False
