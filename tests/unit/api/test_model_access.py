"""A caller with a list of models sees no others, as if they did not exist."""

import pytest
from typing_extensions import override

from maxgate.api.model_access import restrict
from maxgate.errors import NotFound, UpstreamUnavailable
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.context import ProjectModels
from maxgate.generation.errors import ModelNotFound, ModelNotRunning
from maxgate.model_cards.card import Task
from tests.fakes.requests import served_model

MODELS = {name: served_model(name=name) for name in ("large", "small", "stopped")}
ALIASES = {"gpt": "large", "mini": "small"}


class FakeCatalog(ModelCatalog):
    """Has three models, two aliases, a model that has to be started and one that is away."""

    @override
    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        if name == "away":
            raise UpstreamUnavailable("No engine is ready.")
        model = MODELS.get(ALIASES.get(name or "large", name or "large"))
        if model is None:
            raise ModelNotFound(name or "")
        if model.name == "stopped" and task is not None:
            raise ModelNotRunning(model.name)
        return model

    @override
    def list(self) -> list[ServedModel]:
        return list(MODELS.values())


def allow(*names: str) -> ModelCatalog:
    """Restrict the catalog to these names."""
    return restrict(FakeCatalog(), frozenset(names))


def test_all() -> None:
    """Without a list, the catalog itself is used."""
    catalog = FakeCatalog()

    assert restrict(catalog, None) is catalog


@pytest.mark.parametrize("name", ["large", "gpt", "stopped", "unknown"])
def test_hidden(name: str) -> None:
    """A hidden model gets the error of an unknown one by all of its names, and is not started."""
    with pytest.raises(ModelNotFound) as caught:
        allow("small").find(name, "chat")

    assert caught.value.message == ModelNotFound(name).message


@pytest.mark.parametrize("allowed", ["small", "mini"])
@pytest.mark.parametrize("name", ["small", "mini"])
def test_aliases(allowed: str, name: str) -> None:
    """Names and aliases in the list allow the model by all of its names."""
    assert allow(allowed).find(name, "chat").name == "small"


def test_default() -> None:
    """The default is the first allowed model; with none, the error names an allowed one."""
    assert allow("stopped", "small").find(None, "chat").name == "small"
    with pytest.raises(ModelNotFound, match="'gone'"):
        allow("gone").find(None, "chat")


def test_stopped() -> None:
    """An allowed model is started for a request."""
    with pytest.raises(ModelNotRunning):
        allow("stopped").find("stopped", "chat")


def test_list() -> None:
    """The list has the allowed models in the catalog's order; those that are away are left out."""
    names = [model.name for model in allow("stopped", "gpt", "away", "gone").list()]

    assert names == ["large", "stopped"]


def deny(*names: str, allowed: frozenset[str] | None = None) -> ModelCatalog:
    """Hide these names from a project, and all but `allowed` from its key."""
    return restrict(FakeCatalog(), allowed, ProjectModels(frozenset(names), is_denied=True))


@pytest.mark.parametrize("denied", ["large", "gpt"])
@pytest.mark.parametrize("name", ["large", "gpt"])
def test_denied(denied: str, name: str) -> None:
    """A denied model gets the error of an unknown one by all of its names; others are served."""
    catalog = deny(denied, "away", "gone")

    with pytest.raises(ModelNotFound) as caught:
        catalog.find(name, "chat")

    assert caught.value.message == ModelNotFound(name).message
    assert catalog.find("mini", "chat").name == "small"
    assert catalog.find(None, "chat").name == "small"
    assert [model.name for model in catalog.list()] == ["small", "stopped"]


def test_denied_stopped() -> None:
    """A denied model is not started."""
    with pytest.raises(ModelNotFound):
        deny("stopped").find("stopped", "chat")


@pytest.mark.parametrize("name", [None, "large", "gpt"])
def test_key_and_project(name: str | None) -> None:
    """A model needs the permission of both the key and its project, by whatever names they have."""
    project = ProjectModels(frozenset({"large", "small"}))
    catalog = restrict(FakeCatalog(), frozenset({"gpt", "stopped"}), project)

    assert catalog.find(name, "chat").name == "large"
    assert [model.name for model in catalog.list()] == ["large"]
    for hidden in ("small", "stopped"):
        with pytest.raises(ModelNotFound):
            catalog.find(hidden, "chat")


@pytest.mark.parametrize(
    "catalog",
    [allow(), deny("large", "small", "stopped"), deny("gpt", allowed=frozenset({"large"}))],
    ids=["empty list", "all denied", "the only allowed one denied"],
)
def test_no_model(catalog: ModelCatalog) -> None:
    """A caller that may use no model has no default, and an empty list."""
    with pytest.raises(NotFound) as caught:
        catalog.find(None, "chat")

    assert caught.value.code == "model_not_found"
    assert catalog.list() == []
