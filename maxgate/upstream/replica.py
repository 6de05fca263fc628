"""The state of one MAX server, as requests and probes have observed it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.settings import hide_credentials

ReplicaState = Literal["unknown", "healthy", "unreachable"]

# An engine under load may be slow to list its models; one that refuses connections is gone.
MAX_FAILED_PROBES: Final = 3


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model as an engine lists it; `context_length` is None if the engine does not report it.

    `software` is the name of the engine's software.
    """

    name: str
    created: int
    context_length: int | None
    software: str = "MAX"


def find_software(models: Mapping[str, EngineModel]) -> str | None:
    """Return the name of the software that serves the models; None without models."""
    return next((model.software for model in models.values()), None)


class Replica:
    """One engine. Its state changes only through its methods; `in_flight` belongs to the pool.

    `target` is the URL for requests, `url` the same without credentials, for everything else.
    `models` keeps the last list while the engine is unreachable: it is expected to return with the
    same models. `capabilities` are by model. `in_flight` counts requests whose response is not
    closed yet. `watch_failures` counts unexpected errors in the gateway while it probed the engine.
    """

    def __init__(self, url: str) -> None:
        self.target = url.rstrip("/")
        self.url = hide_credentials(self.target)
        self.state: ReplicaState = "unknown"
        self.models: Mapping[str, EngineModel] = {}
        self.capabilities: dict[str, Capabilities] = {}
        self.error: str | None = None
        self.in_flight = 0
        self.watch_failures = 0
        self._failed_probes = 0

    @property
    def software(self) -> str | None:
        """Name of the engine's software; None until it has listed its models."""
        return find_software(self.models)

    def mark_healthy(
        self,
        models: Mapping[str, EngineModel],
        capabilities: Mapping[str, Capabilities] | None = None,
    ) -> None:
        """Record a successful probe; `capabilities` are those that were probed."""
        self.capabilities |= capabilities or {}
        self.state, self.models, self.error = "healthy", models, None
        self._failed_probes = 0

    def mark_probe_failed(self, error: str, *, refused: bool) -> None:
        """Record a failed probe; a healthy replica tolerates slow ones, but no refused one."""
        self._failed_probes += 1
        if refused or self.state != "healthy" or self._failed_probes >= MAX_FAILED_PROBES:
            self.mark_unreachable(error)

    def mark_unreachable(self, error: str) -> None:
        """Take the replica out of service until a probe succeeds."""
        self.state, self.error = "unreachable", error
