"""Changes to the engines at run time, as differences to the configuration."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from maxgate.api.admin.schemas import unknown_engine
from maxgate.errors import Conflict
from maxgate.upstream.settings import DNS_PREFIX, MAX_CONCURRENCY, ReplicaSettings


class EngineOverride(BaseModel):
    """Changed fields of an engine; those that are not set stay as configured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1, gt=0, le=1000, allow_inf_nan=False)
    max_concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY)


class EngineChanges(BaseModel):
    """Engines added and removed, drained, and changed; engines are named by id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    added: list[ReplicaSettings] = []
    removed: list[str] = []
    drained: list[str] = []
    changed: dict[str, EngineOverride] = {}

    def apply_to(self, configured: Sequence[ReplicaSettings]) -> list[ReplicaSettings]:
        """Return the engines of the configuration with these changes."""
        kept = [engine for engine in configured if engine.id not in self.removed]
        return [self._override(engine) for engine in (*kept, *self.added)]

    def _override(self, engine: ReplicaSettings) -> ReplicaSettings:
        override = self.changed.get(engine.id)
        if override is None:
            return engine
        return engine.model_copy(update=override.model_dump(exclude_unset=True))

    def restrict_to(self, configured: Sequence[ReplicaSettings]) -> "EngineChanges":
        """Drop the changes that a new configuration has made pointless.

        Removals of engines that are not configured, and additions of those that are.
        """
        ids = {engine.id for engine in configured}
        added = [engine for engine in self.added if engine.id not in ids]
        kept = ids | {engine.id for engine in added}
        return EngineChanges(
            added=added,
            removed=[engine_id for engine_id in self.removed if engine_id in ids],
            drained=self.drained,  # addresses behind a DNS name have ids of their own
            changed={key: value for key, value in self.changed.items() if key in kept},
        )

    def dump(self) -> dict[str, Any]:
        """Return the changes as plain data, without what is empty or unset."""
        plain = self.model_dump(mode="json", exclude_unset=True)
        return {name: value for name, value in plain.items() if value}


class ManagedEngines:
    """The engines that all workers use: those of the configuration, with changes at run time.

    `save` stores changes before they count; if it raises, nothing changes. `leaving` are removed
    engines that serve until their successors have been probed. `started` are those of models that
    the gateway has started, by model, and `stopped` has the ids of those that it has stopped.
    """

    def __init__(
        self,
        configured: Sequence[ReplicaSettings],
        changes: EngineChanges,
        save: Callable[[EngineChanges], None],
    ) -> None:
        self.configured = list(configured)
        self.changes = changes.restrict_to(configured)
        self.leaving: list[ReplicaSettings] = []
        self.started: dict[str, ReplicaSettings] = {}
        self.stopped: set[str] = set()
        self._save = save

    @property
    def engines(self) -> list[ReplicaSettings]:
        """The engines in use, drained ones included."""
        return self.changes.apply_to(self.configured)

    @property
    def serving(self) -> list[ReplicaSettings]:
        """The engines in use, those that are leaving, and those of started models."""
        engines = [engine for engine in self.engines if engine.id not in self.stopped]
        ids = {engine.id for engine in engines}
        leaving = [engine for engine in self.leaving if engine.id not in ids]
        return [*engines, *leaving, *self.started.values()]

    @property
    def added_ids(self) -> set[str]:
        """Ids of the engines that are not in the configuration."""
        return {engine.id for engine in (*self.changes.added, *self.started.values())}

    def add(self, engine: ReplicaSettings) -> None:
        """Add an engine; raises Conflict if it is there already."""
        if any(one.id == engine.id for one in self.engines):
            raise Conflict(
                f"The engine {engine.public_url} is there already, with the id {engine.id!r}.",
                param="url",
                code="engine_exists",
            )
        changes = self.changes.model_copy(update={"removed": self._without_removal(engine.id)})
        known = next((one for one in self.configured if one.id == engine.id), None)
        if known is None:
            added = [*changes.added, engine]
            self._replace(changes.model_copy(update={"added": added}))
        elif known == engine:
            self._replace(changes)
        else:
            raise Conflict(
                f"The engine {engine.public_url} is in the configuration, with other settings. "
                "Change it there and reload, or add it with the same settings.",
                param="url",
                code="engine_exists",
            )

    def change(
        self, engine_id: str, fields: dict[str, Any], seen_ids: Collection[str] = ()
    ) -> None:
        """Change the fields of an engine: `draining`, `weight`, `max_concurrency`.

        `seen_ids` are those of addresses behind a DNS name, which can only be drained. Raises
        NotFound.
        """
        engine = next((one for one in self.engines if one.id == engine_id), None)
        if engine is None and engine_id not in seen_ids:
            raise unknown_engine(engine_id)
        if engine is not None and "draining" in fields and engine.url.startswith(DNS_PREFIX):
            raise Conflict(
                f"{engine.public_url} is a DNS name. Drain its addresses, or remove it.",
                param="draining",
            )
        update: dict[str, Any] = {}
        if "draining" in fields:
            others = [one for one in self.changes.drained if one != engine_id]
            update["drained"] = [*others, engine_id] if fields["draining"] else others
        override = {name: value for name, value in fields.items() if name != "draining"}
        if override and engine is None:
            raise Conflict(
                f"{engine_id!r} is an address of an engine with a DNS name; change that engine."
            )
        if override:
            before = self.changes.changed.get(engine_id, EngineOverride())
            merged = {**before.model_dump(exclude_unset=True), **override}
            update["changed"] = {**self.changes.changed, engine_id: EngineOverride(**merged)}
        self._replace(self.changes.model_copy(update=update))

    def remove(self, engine_id: str) -> None:
        """Remove an engine; raises NotFound, and Conflict if it is the last one."""
        engines = self.engines
        if not any(one.id == engine_id for one in engines):
            raise unknown_engine(engine_id)
        if all(one.id == engine_id for one in engines):  # the configuration may repeat it
            raise Conflict(
                "The last engine cannot be removed. Add another one first, or drain it.",
                param="engine_id",
                code="last_engine",
            )
        changes = self.changes
        removed = self._without_removal(engine_id)
        if any(one.id == engine_id for one in self.configured):
            removed.append(engine_id)
        self._replace(
            EngineChanges(
                added=[one for one in changes.added if one.id != engine_id],
                removed=removed,
                drained=[one for one in changes.drained if one != engine_id],
                changed={key: one for key, one in changes.changed.items() if key != engine_id},
            )
        )

    def reconfigure(self, configured: Sequence[ReplicaSettings]) -> None:
        """Use a new configuration; raises Conflict if no engine would be left."""
        changes = self.changes.restrict_to(configured)
        if not changes.apply_to(configured):
            raise Conflict(
                "Every engine of the new configuration was removed at run time. Add one of them "
                "first, or configure another one.",
                code="last_engine",
            )
        if changes != self.changes:
            self._save(changes)
        self.configured, self.changes = list(configured), changes

    def _without_removal(self, engine_id: str) -> list[str]:
        return [one for one in self.changes.removed if one != engine_id]

    def _replace(self, changes: EngineChanges) -> None:
        self._save(changes)
        self.changes = changes
