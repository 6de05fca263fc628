"""What can be asked for: cards joined with what the engines list."""

import pytest

from maxgate.errors import NotFound, UpstreamUnavailable
from maxgate.generation.errors import ModelNotFound, WrongModelForTask
from maxgate.model_cards.card import MaxFlags, ModelCard
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.replica import EngineModel, Replica


def card(name: str, *aliases: str, prompt: str = "chatml") -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": name,
            "aliases": aliases,
            "prompt": prompt,
            "context_length": 1000,
            "max": MaxFlags(model_path="x"),
        }
    )


def embedding_card(name: str) -> ModelCard:
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
    replica = Replica("http://engine")
    if healthy:
        replica.mark_healthy({model.name: model for model in models})
    return replica


def catalog(cards: list[ModelCard], *engines: Replica, formats: bool = True) -> LiveCatalog:
    live = LiveCatalog(cards, engines, lambda _: formats)
    live.refresh()
    return live


def test_models_are_listed_in_the_order_of_the_cards_and_then_those_without() -> None:
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


def test_a_model_is_found_by_its_name_an_alias_or_no_name() -> None:
    live = catalog([card("small", "tiny")], engine(EngineModel("small", 1, None)))
    assert live.find("small") is live.find("tiny") is live.find(None)


def test_until_its_tokenizer_is_here_the_engine_formats_the_prompts() -> None:
    live = catalog([card("small")], engine(EngineModel("small", 1, None)), formats=False)
    assert live.find("small").prompt == "engine"


def test_a_name_that_nobody_knows_is_not_found() -> None:
    live = catalog([card("small")], engine(EngineModel("small", 1, None)))
    with pytest.raises(ModelNotFound, match="'gpt-4'"):
        live.find("gpt-4")


def test_a_card_that_no_engine_serves_is_not_found_once_all_were_asked() -> None:
    live = catalog([card("small"), card("big")], engine(EngineModel("small", 1, None)))
    with pytest.raises(ModelNotFound):
        live.find("big")


def test_a_card_whose_engine_is_away_is_unavailable() -> None:
    live = catalog([card("big")], engine(healthy=False))
    for name in ("big", None):
        with pytest.raises(UpstreamUnavailable) as caught:
            live.find(name)
        assert caught.value.retry_after == 2


def test_a_model_that_is_left_out_is_the_first_one_for_the_task() -> None:
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


def test_a_model_that_does_something_else_is_refused() -> None:
    live = catalog(
        [embedding_card("vectors"), card("small")],
        engine(EngineModel("vectors", 1, 256), EngineModel("small", 1, None)),
    )
    with pytest.raises(WrongModelForTask, match="'vectors' is for embeddings and does not support"):
        live.find("vectors", "chat")
    with pytest.raises(WrongModelForTask, match="'small' is for chat"):
        live.find("small", "embeddings")


def test_a_task_that_no_model_does_is_said_once_all_engines_were_asked() -> None:
    small = engine(EngineModel("small", 1, None))
    with pytest.raises(NotFound, match="No model for embeddings is served here"):
        catalog([card("small")], small).find(None, "embeddings")
    with pytest.raises(UpstreamUnavailable):
        catalog([card("small")], small, engine(healthy=False)).find(None, "embeddings")
