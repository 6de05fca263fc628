"""The catalog joins model cards with the models that engines list."""

import pytest

from maxgate.errors import NotFound, UpstreamUnavailable
from maxgate.generation.errors import ModelNotFound, ModelNotRunning, WrongModelForTask
from maxgate.model_cards.card import MaxFlags, ModelCard
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.replica import EngineModel, Replica


def card(
    name: str, *aliases: str, prompt: str = "chatml", require_tokenizer: bool = False
) -> ModelCard:
    """Return a card of a chat model."""
    return ModelCard.model_validate(
        {
            "name": name,
            "aliases": aliases,
            "prompt": prompt,
            "require_tokenizer": require_tokenizer,
            "context_length": 1000,
            "max": MaxFlags(model_path="x"),
        }
    )


def embedding_card(name: str) -> ModelCard:
    """Return a card of an embedding model."""
    return ModelCard.model_validate(
        {
            "name": name,
            "task": "embeddings",
            "prompt": "engine",
            "context_length": 256,
            "dimensions": 384,
            "max": MaxFlags(model_path="x"),
        }
    )


def engine(*models: EngineModel, healthy: bool = True) -> Replica:
    """Return a replica that serves these models, or one that has not been reached."""
    replica = Replica("http://engine")
    if healthy:
        replica.mark_healthy({model.name: model for model in models})
    return replica


def catalog(
    cards: list[ModelCard],
    *engines: Replica,
    formats: bool = True,
    require_tokenizer: bool = False,
    waits_for_engines: bool = False,
) -> LiveCatalog:
    """Return the catalog of these cards and engines."""
    live = LiveCatalog(
        cards,
        engines,
        lambda _: formats,
        require_tokenizer=require_tokenizer,
        waits_for_engines=waits_for_engines,
    )
    live.refresh()
    return live


def test_order() -> None:
    """Models are listed in the order of their cards, then those without a card."""
    live = catalog(
        [card("big"), card("small")],
        engine(EngineModel("stranger", 3, None), EngineModel("small", 2, 500)),
        engine(EngineModel("big", 1, 4000)),
    )
    assert [(m.name, m.prompt, m.context_length, m.created) for m in live.list()] == [
        ("big", "chatml", 1000, 1),
        ("small", "chatml", 500, 2),
        ("stranger", "engine", 2**31, 3),
    ]


def test_find() -> None:
    """A model is found by its name, an alias, or without a name."""
    live = catalog([card("small", "tiny")], engine(EngineModel("small", 1, None)))
    assert live.find("small") is live.find("tiny") is live.find(None)


def test_no_prompt_format() -> None:
    """Without its prompt format, the engine formats a model's prompts."""
    live = catalog([card("small")], engine(EngineModel("small", 1, None)), formats=False)
    model = live.find("small", "chat")
    assert (model.prompt, model.prompts) == ("engine", "engine")


@pytest.mark.parametrize("name", ["small", None])
def test_required_tokenizer(name: str | None) -> None:
    """A model that requires its tokenizer is listed without it, but not served."""
    strict = card("small", require_tokenizer=True)
    live = catalog([strict], engine(EngineModel("small", 1, None)), formats=False)
    assert live.find(name).prompts == "unavailable"
    with pytest.raises(UpstreamUnavailable, match="tokenizer of small is not on") as caught:
        live.find(name, "chat")
    assert caught.value.retry_after == 30
    complete = catalog([strict], engine(EngineModel("small", 1, None)))
    assert complete.find(name, "chat").prompts == "gateway"


def test_required_tokenizers() -> None:
    """The setting refuses every model whose prompts the engine would format."""
    replica = engine(EngineModel("small", 1, None), EngineModel("stranger", 1, None))
    live = catalog([card("small")], replica, formats=False, require_tokenizer=True)
    for name in ("small", "stranger"):
        with pytest.raises(UpstreamUnavailable):
            live.find(name, "chat")


def test_embedding_without_tokenizer() -> None:
    """Only the gateway can encode embedding inputs."""
    live = catalog([embedding_card("vectors")], engine(EngineModel("vectors", 1, 1)), formats=False)
    assert live.find("vectors").prompts == "unavailable"


def test_unknown_name() -> None:
    """An unknown name is not found."""
    live = catalog([card("small")], engine(EngineModel("small", 1, None)))
    with pytest.raises(ModelNotFound, match="'gpt-4'"):
        live.find("gpt-4")


def test_card_without_engine() -> None:
    """A card's model is not found if all engines are healthy and none serves it."""
    live = catalog([card("small"), card("big")], engine(EngineModel("small", 1, None)))
    with pytest.raises(ModelNotFound):
        live.find("big")


def test_card_with_unhealthy_engine() -> None:
    """A card's model is unavailable while an engine is not healthy."""
    live = catalog([card("big")], engine(healthy=False))
    for name in ("big", None):
        with pytest.raises(UpstreamUnavailable) as caught:
            live.find(name)
        assert caught.value.retry_after == 2


def test_default_model() -> None:
    """Without a name, the first model for the task is chosen."""
    live = catalog(
        [embedding_card("vectors"), card("small")],
        engine(EngineModel("vectors", 1, 256), EngineModel("small", 1, None)),
    )
    assert [live.find(None, task).name for task in ("chat", "embeddings", None)] == [  # type: ignore[arg-type]
        "small",
        "vectors",
        "vectors",
    ]
    vectors = live.find("vectors", "embeddings")
    assert (vectors.task, vectors.dimensions, vectors.context_length) == ("embeddings", 384, 256)


def test_wrong_task() -> None:
    """A model for another task is refused."""
    live = catalog(
        [embedding_card("vectors"), card("small")],
        engine(EngineModel("vectors", 1, 256), EngineModel("small", 1, None)),
    )
    with pytest.raises(WrongModelForTask, match="'vectors' is for embeddings and does not support"):
        live.find("vectors", "chat")
    with pytest.raises(WrongModelForTask, match="'small' is for chat"):
        live.find("small", "embeddings")


def test_no_model_for_task() -> None:
    """A task without a model is not found once all engines are healthy, and unavailable before."""
    small = engine(EngineModel("small", 1, None))
    with pytest.raises(NotFound, match="No model for embeddings is served here"):
        catalog([card("small")], small).find(None, "embeddings")
    with pytest.raises(UpstreamUnavailable):
        catalog([card("small")], small, engine(healthy=False)).find(None, "embeddings")


def test_other_engine() -> None:
    """An engine other than MAX formats the prompts itself, even with a card."""
    live = catalog([card("small")], engine(EngineModel("small", 1, None, "vLLM")))
    assert live.find("small").prompt == "engine"


def test_longest_context() -> None:
    """A model has the longest context of its replicas, in whatever order they are."""
    short, long = EngineModel("small", 1, 100), EngineModel("small", 1, 500)
    for engines in ((engine(short), engine(long)), (engine(long), engine(short))):
        assert catalog([], *engines).find("small").context_length == 500
    unlimited = EngineModel("small", 1, None)
    assert catalog([], engine(unlimited), engine(long)).find("small").context_length == 2**31


def test_stopped_model() -> None:
    """A model that the gateway can start is listed last, and a request for it has to wait."""
    live = catalog([card("a", "alias"), card("b")], engine(EngineModel("b", 1, None)))
    live.manage({"a": False, "b": True}, {})
    assert [model.name for model in live.list()] == ["b", "a"]
    assert (live.find("alias").name, live.find(None, "chat").name) == ("a", "b")
    with pytest.raises(ModelNotRunning):
        live.find("alias", "chat")
    with pytest.raises(WrongModelForTask):
        live.find("a", "embeddings")
    assert (live.is_ready("a"), live.is_ready("b")) == (False, True)


def test_closed_model() -> None:
    """Requests for a running model that is closed have to wait, also those without a name."""
    live = catalog([card("a")], engine(EngineModel("a", 1, None)))
    live.manage({"a": False}, {})
    for name in ("a", None):
        with pytest.raises(ModelNotRunning):
            live.find(name, "chat")
    live.manage({"a": True}, {})
    assert live.find("a", "chat").name == "a"


def test_replaced_model() -> None:
    """The names of a model that was swapped lead to the one in its place, running or not."""
    replica = engine(EngineModel("a", 1, None), EngineModel("b", 1, None))
    live = catalog([card("a", "alias"), card("b")], replica)
    live.manage({}, {"a": "b"})
    assert [model.name for model in live.list()] == ["b"]
    assert (live.find("a", "chat").name, live.find("alias", "chat").name) == ("b", "b")
    live.manage({"b": False}, {"a": "b"})
    with pytest.raises(ModelNotRunning, match="'b' is not running"):
        live.find("alias", "chat")


def test_no_addresses() -> None:
    """Without any engine, models of cards may appear, and others do not exist."""
    live = catalog([card("a")])
    with pytest.raises(UpstreamUnavailable):
        live.find("a", "chat")
    with pytest.raises(ModelNotFound):
        live.find("b", "chat")


@pytest.mark.parametrize("name", ["a", "alias", None])
def test_waits_for_first_engine(name: str | None) -> None:
    """Models of cards are listed before any engine is known, and requests wait for one."""
    live = catalog([card("a", "alias")], waits_for_engines=True)
    with pytest.raises(ModelNotRunning) as raised:
        live.find(name, "chat")
    assert raised.value.model == "a"
    assert ([model.name for model in live.list()], live.is_ready("a")) == (["a"], False)


@pytest.mark.parametrize("name", ["a", None])
def test_waits_for_return(name: str | None) -> None:
    """Requests wait while all engines of their model are gone or draining."""
    replica = engine(EngineModel("a", 1, 1000))
    live = catalog([card("a")], replica, waits_for_engines=True)
    assert live.find(name, "chat").name == "a"

    replica.mark_unreachable("connection refused")
    with pytest.raises(ModelNotRunning):
        live.find(name, "chat")
    assert live.find("a").name == "a"  # its description

    replica.mark_healthy({"a": EngineModel("a", 1, 1000)})
    assert (live.find(name, "chat").name, live.is_ready("a")) == ("a", True)
