"""The context of one client request: caller, deadline, priority, retry allowance and record."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from maxgate.generation.request_record import RequestRecord

MAX_RETRIES: Final = 3

ServiceClass = Literal["priority", "default", "flex"]
"""Classes of requests in the order in which they get slots, named after OpenAI's service tiers."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. `tenant_id` is the unit of fairness and isolation: the project.

    Ids are opaque: they are equal in all workers and gateways, and reveal no credentials.
    `highest_class` is the best class that a request of the caller may choose. `caller` is unique
    for key, owner and project: mappings use it to find what applies to a caller.
    """

    tenant_id: str
    project_id: str
    owner_id: str
    key_id: str
    service_class: ServiceClass
    highest_class: ServiceClass = "priority"
    caller: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # `repr`, because ids may contain any separator.
        object.__setattr__(self, "caller", repr((self.key_id, self.owner_id, self.project_id)))


ANONYMOUS: Final = Principal("anonymous", "anonymous", "anonymous", "", "default")


@dataclass(frozen=True, slots=True)
class ProjectModels:
    """Names and aliases of the models that a project may use, or may not use if `is_denied`."""

    names: frozenset[str]
    is_denied: bool = False


@dataclass(slots=True)
class RetryAllowance:
    """Extra engine calls that one client request may cause, shared by all of its choices.

    Strict tools, structured output, fail-over and stale connections all draw on it, so that
    retries at different layers add up and never multiply.
    """

    remaining: int = MAX_RETRIES
    taken: int = 0

    def take(self) -> bool:
        """Take one retry; False if none is left."""
        if self.remaining <= 0:
            return False
        self.remaining -= 1
        self.taken += 1
        return True


class Reservation(Protocol):
    """The amounts of limits and budgets that a client request holds, for all its engine calls."""

    def settle(self, record: RequestRecord) -> None:
        """Count the real usage and release the rest; called once, when the request ends."""
        ...


class UsageLedger(Protocol):
    """The ledger of requests. While it `is_refusing`, it has no room for new ones.

    It writes one line for each request whose context has it, and takes itself from the context.
    """

    is_refusing: bool
    """Whether new requests must be refused."""

    def commit(self, context: "RequestContext") -> Awaitable[None] | None:
        """Write the line of a request whose last byte is about to be sent.

        The result, if there is one, is to be awaited: the line is durable then. The line has the
        outcome that the record has when it is written: the client may leave meanwhile.
        """
        ...

    def commit_then(self, context: "RequestContext", on_durable: Callable[[], None]) -> bool:
        """Write the line as `commit` does, and call `on_durable` when it is durable.

        Returns False if there is nothing to wait for; `on_durable` is not called then.
        """
        ...

    def append(self, context: "RequestContext") -> None:
        """Write the line of a request that ended before its last byte was sent, soon."""
        ...


@dataclass(slots=True, eq=False)
class RequestContext:
    """Shared by every layer that works on one client request.

    `deadline` is a time of the event loop, in seconds; None means no deadline. `cancelled_at` is
    the time at which it passed or the client disconnected. A lower
    `priority` is served earlier within a tenant, as in vLLM. `session` names the client's dialogue,
    and `is_client_retry` is True if the client announces that it repeats a request. A request that
    `fans_out` has several prompts or choices, `choices` in all; `engine_calls` bounds its
    concurrent engine calls and is set by the innermost backend, and `encoding` is held while one of
    its long prompts is encoded. `model` is the name of the model that serves it, once that is
    found. `models` are the names that the caller may use, None for all, and `project_models` limit
    them further. A request that `was_held` has waited for its model to start. `is_admin` allows the
    admin API, and `reads_metrics` metrics that are for admins.
    `reservation` is set by the first engine call, if limits apply. `tags` are those of the
    request's `metadata`, and `decisions` name what guardrails did, without text. `ledger` is set
    until the line of the request is written, before its last byte is sent.
    """

    record: RequestRecord
    principal: Principal = ANONYMOUS
    models: frozenset[str] | None = None
    project_models: ProjectModels | None = None
    is_admin: bool = True
    reads_metrics: bool = False
    deadline: float | None = None
    cancelled_at: float | None = None
    priority: int = 0
    session: str | None = None
    is_client_retry: bool = False
    retries: RetryAllowance = field(default_factory=RetryAllowance)
    fans_out: bool = False
    choices: int = 1
    engine_calls: AbstractAsyncContextManager[None] | None = None
    encoding: AbstractAsyncContextManager[None] | None = None
    model: str | None = None
    was_held: bool = False
    reservation: Reservation | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    ledger: UsageLedger | None = None

    def commit_line(self) -> Awaitable[None] | None:
        """Write the line of the request, unless that is done; see UsageLedger.commit."""
        return None if self.ledger is None else self.ledger.commit(self)
