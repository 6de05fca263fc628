"""Refusals of admission; each says when a retry is likely to succeed."""

from typing import ClassVar

from maxgate.errors import GatewayError


class Refused(GatewayError):
    """The request was not admitted; a later retry may be."""

    should_retry: ClassVar[bool | None] = True


class ServerOverloaded(Refused):
    """There is no capacity: the queue is full, or the wait would be too long (`is_late`)."""

    is_late = False

    status = 503
    type = "server_error"
    default_code = "server_overloaded"


class TenantQueueFull(Refused):
    """The caller has more than its share of the queue."""

    status = 429
    type = "rate_limit_error"
    default_code = "tenant_queue_full"


class QueueTimeout(Refused):
    """The request has waited in the queue for as long as it may."""

    status = 503
    type = "server_error"
    default_code = "queue_timeout"
