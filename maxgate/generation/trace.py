"""Interfaces of the trace of one client request, to which every layer reports its steps."""

from typing import Any, Literal, Protocol

StepName = Literal["queue", "prompt", "cache"]
"""Waiting for a slot or a model, encoding the prompt, and looking it up in a cache."""

AttemptReason = Literal["call", "retry", "continuation"]


class AttemptTrace(Protocol):
    """One try of an engine call.

    `headers` carry the trace on to the engine. Callers set `status` to that of the response.
    """

    headers: list[tuple[bytes, bytes]]
    status: int

    def note_first_token(self) -> None:
        """Note that the response has begun."""
        ...

    def finish(self, error: BaseException | None) -> None:
        """Note the end; a response that is left early, as at a stop string, has not failed."""
        ...


class RequestTrace(Protocol):
    """The trace of a request; steps of one that is not sampled are ignored.

    `details` are the attributes of its span that layers add.
    """

    is_sampled: bool
    details: dict[str, Any]

    @property
    def hex_id(self) -> str:
        """The trace id as 32 hexadecimal digits."""
        ...

    def add_step(self, name: StepName, seconds: float) -> None:
        """Note a step that ends now and took this long."""
        ...

    def begin_attempt(
        self, engine: str, path: str, model: str, reason: AttemptReason
    ) -> AttemptTrace:
        """Note an attempt that begins now."""
        ...
