"""Errors of requests that read or change the organization."""

from typing import ClassVar

from maxgate.errors import GatewayError


class DatabaseUnavailable(GatewayError):
    """The database cannot be reached; nothing was changed."""

    status = 503
    default_code = "database_unavailable"
    should_retry: ClassVar[bool | None] = True

    def __init__(self) -> None:
        super().__init__(
            "The database is unavailable, and nothing was changed. Retry later.", retry_after=2.0
        )


class PreconditionFailed(GatewayError):
    """The object has another ETag than the request expects."""

    status = 412
    type = "invalid_request_error"
    default_code = "precondition_failed"
    should_retry: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__(
            "The object was changed since its ETag was read. Read it again, and send the new ETag "
            "in If-Match."
        )


class IdempotencyKeyReused(GatewayError):
    """Another request had the same Idempotency-Key."""

    status = 409
    type = "invalid_request_error"
    default_code = "idempotency_key_reused"
    should_retry: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__(
            "The Idempotency-Key was used for another request of the last day. Send a new one."
        )


class RequestInProgress(GatewayError):
    """A request with the same Idempotency-Key was carried out at the same time."""

    status = 409
    type = "invalid_request_error"
    default_code = "request_in_progress"
    should_retry: ClassVar[bool | None] = True

    def __init__(self) -> None:
        super().__init__(
            "A request with the same Idempotency-Key is in progress. Repeat it to get its result.",
            retry_after=1.0,
        )
