"""Refusals of admission; each says when a retry is likely to succeed."""

from typing import ClassVar

from maxgate.errors import GatewayError
from maxgate.generation.request_record import Refusal


class Refused(GatewayError):
    """The request was not admitted; a later retry may be. `reason` is that of the metrics."""

    should_retry: ClassVar[bool | None] = True
    reason: Refusal


class ServerOverloaded(Refused):
    """There is no capacity: the queue is full, or the wait would exceed the deadline."""

    reason: Refusal = "server_overloaded"
    status = 503
    type = "server_error"
    default_code = "server_overloaded"


class TenantQueueFull(Refused):
    """The caller has more than its share of the queue."""

    reason: Refusal = "tenant_queue_full"
    status = 429
    type = "rate_limit_error"
    default_code = "tenant_queue_full"


class QueueTimeout(Refused):
    """The request has waited in the queue for as long as it may."""

    reason: Refusal = "queue_timeout"
    status = 503
    type = "server_error"
    default_code = "queue_timeout"
