"""Changes to the engines at run time are differences to the configuration."""

from collections.abc import Sequence
from typing import Any

import pytest

from maxgate.control_plane.changes import EngineChanges, ManagedEngines
from maxgate.control_plane.errors import ChangesNotSaved
from maxgate.errors import Conflict, NotFound
from maxgate.upstream.settings import ReplicaSettings

A, B, C = (ReplicaSettings(url=f"http://{name}:8080") for name in "abc")


def manage(
    *configured: ReplicaSettings, changes: EngineChanges | None = None
) -> tuple[ManagedEngines, list[EngineChanges]]:
    """Engines with this configuration, and a list of the states that they save."""
    saved: list[EngineChanges] = []
    return ManagedEngines(configured, changes or EngineChanges(), saved.append), saved


def list_urls(engines: Sequence[ReplicaSettings]) -> list[str]:
    """Return the URLs of engines."""
    return [engine.url for engine in engines]


def test_added() -> None:
    """An added engine comes after those of the configuration, and is saved."""
    managed, saved = manage(A)
    managed.add(B)
    assert list_urls(managed.engines) == [A.url, B.url]
    assert saved == [EngineChanges(added=[B])]
    assert managed.added_ids == {B.id}


@pytest.mark.parametrize("engine", [A, B])
def test_added_twice(engine: ReplicaSettings) -> None:
    """An engine that is there cannot be added."""
    managed, _ = manage(A)
    managed.add(B)
    with pytest.raises(Conflict, match="is there already"):
        managed.add(engine)


def test_removed_and_added_again() -> None:
    """Adding a removed engine of the configuration undoes the removal."""
    managed, saved = manage(A, B)
    managed.remove(B.id)
    assert (list_urls(managed.engines), saved[-1]) == ([A.url], EngineChanges(removed=[B.id]))
    managed.add(B)
    assert (list_urls(managed.engines), saved[-1]) == ([A.url, B.url], EngineChanges())


def test_added_again_with_other_settings() -> None:
    """A removed engine of the configuration cannot come back with other settings."""
    managed, _ = manage(A, B)
    managed.remove(B.id)
    with pytest.raises(Conflict, match="in the configuration, with other settings"):
        managed.add(B.model_copy(update={"weight": 3.0}))


def test_removed_at_run_time() -> None:
    """Removing an added engine leaves nothing of it."""
    managed, saved = manage(A)
    managed.add(B)
    managed.change(B.id, {"draining": True, "weight": 2})
    managed.remove(B.id)
    assert saved[-1] == EngineChanges()


@pytest.mark.parametrize("configured", [(A,), (A, A)])
def test_last_engine(configured: Sequence[ReplicaSettings]) -> None:
    """The last engine stays, also if the configuration names it twice."""
    managed, saved = manage(*configured)
    with pytest.raises(Conflict, match="last engine"):
        managed.remove(A.id)
    assert saved == []


def test_changed() -> None:
    """Weight and maximum concurrency replace those of the configuration, field by field."""
    managed, saved = manage(A.model_copy(update={"max_concurrency": 8}))
    managed.change(A.id, {"weight": 2.5})
    [engine] = managed.engines
    assert (engine.weight, engine.max_concurrency) == (2.5, 8)
    managed.change(A.id, {"max_concurrency": None})
    [engine] = managed.engines
    assert (engine.weight, engine.max_concurrency) == (2.5, None)
    assert saved[-1].dump() == {"changed": {A.id: {"weight": 2.5, "max_concurrency": None}}}


def test_drained() -> None:
    """An engine is drained once, and undrained."""
    managed, saved = manage(A)
    managed.change(A.id, {"draining": True})
    managed.change(A.id, {"draining": True})
    assert managed.changes.drained == [A.id]
    managed.change(A.id, {"draining": False})
    assert saved[-1] == EngineChanges()


def test_address_of_a_dns_name() -> None:
    """An address behind a DNS name can be drained, and nothing else."""
    managed, _ = manage(A)
    managed.change("address", {"draining": True}, {"address"})
    assert managed.changes.drained == ["address"]
    with pytest.raises(Conflict):
        managed.change("address", {"weight": 2}, {"address"})


def test_dns_name() -> None:
    """An engine with a DNS name is weighted and removed as a whole, and drained by address."""
    name = ReplicaSettings(url="dns+http://engines:8000")
    managed, saved = manage(A, name)
    with pytest.raises(Conflict, match="Drain its addresses"):
        managed.change(name.id, {"draining": True})
    managed.change(name.id, {"weight": 2})
    managed.remove(name.id)
    assert saved[-1] == EngineChanges(removed=[name.id])


@pytest.mark.parametrize("action", ["change", "remove"])
def test_unknown(action: str) -> None:
    """An id that no engine has is not found."""
    managed, _ = manage(A, B)
    with pytest.raises(NotFound, match="'nothing'"):
        managed.remove("nothing") if action == "remove" else managed.change("nothing", {})


def test_not_saved() -> None:
    """A change that cannot be saved is not made."""

    def fail(_: EngineChanges) -> None:
        raise ChangesNotSaved("disk full")

    managed = ManagedEngines([A], EngineChanges(), fail)
    with pytest.raises(ChangesNotSaved):
        managed.add(B)
    assert list_urls(managed.engines) == [A.url]


def test_new_configuration() -> None:
    """Changes stay with a new configuration, except those that it has made pointless."""
    managed, saved = manage(A, B)
    managed.remove(B.id)
    managed.add(C)
    managed.change(A.id, {"weight": 2})
    managed.reconfigure([A])
    assert list_urls(managed.engines) == [A.url, C.url]
    managed.reconfigure([A, B, C])
    assert list_urls(managed.engines) == [A.url, B.url, C.url]
    assert saved[-1].dump() == {"changed": {A.id: {"weight": 2.0}}}


def test_configuration_without_engines() -> None:
    """A configuration whose every engine was removed is refused, and the old one stays."""
    managed, _ = manage(A, B)
    managed.remove(B.id)
    with pytest.raises(Conflict, match="removed at run time"):
        managed.reconfigure([B])
    assert list_urls(managed.engines) == [A.url]


@pytest.mark.parametrize(
    "content", [{"added": ["http://a", 5]}, {"drained": "a"}, {"other": []}, {"changed": {"a": 1}}]
)
def test_invalid_content(content: Any) -> None:
    """Saved changes of another shape are rejected."""
    with pytest.raises(ValueError, match="validation error"):
        EngineChanges.model_validate(content)
