"""Which engines the gateway starts: the cards given, one at each URL."""

from pathlib import Path
from typing import Any

import pytest

from maxgate.cli.engine_process import engines_to_start
from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings
from tests.fakes.gateway import EMBEDDING_CARD, SMALL_CARD

HERE, THERE = "http://localhost:8080", "http://localhost:8082"
CHAT, EMBEDDINGS = "smollm2-135m-instruct", "all-minilm-l6-v2"


def started(*, urls: list[str], cards: list[Path], **more: Any) -> list[tuple[str, str]]:
    settings = Settings(**{"engine": "local", "engine_urls": urls, "cards": cards, **more})
    starts = engines_to_start(settings, load_cards(settings.cards))
    return [(start.card.name, start.url) for start in starts]


@pytest.mark.parametrize(
    ("urls", "cards", "expected"),
    [
        ([HERE, THERE], [SMALL_CARD, EMBEDDING_CARD], [(CHAT, HERE), (EMBEDDINGS, THERE)]),
        ([HERE, THERE], [SMALL_CARD], [(CHAT, HERE)]),
        ([HERE], [EMBEDDING_CARD, SMALL_CARD], [(CHAT, HERE)]),
        ([HERE], [EMBEDDING_CARD], [(EMBEDDINGS, HERE)]),
        ([HERE, THERE], [], [("llama-3.3-8b-instruct-q4_k_m", HERE)]),
    ],
)
def test_cards_are_started_at_the_url_of_the_same_place(
    urls: list[str], cards: list[Path], expected: list[tuple[str, str]]
) -> None:
    assert started(urls=urls, cards=cards) == expected


def test_a_card_that_is_named_is_the_only_one() -> None:
    cards = [SMALL_CARD, EMBEDDING_CARD]
    for name in (EMBEDDINGS, "all-minilm"):
        one = started(urls=[HERE, THERE], cards=cards, max={"card": name})
        assert one == [(EMBEDDINGS, HERE)]
    with pytest.raises(ConfigurationError, match="no model card is called gpt-4; there are: smol"):
        started(urls=[HERE], cards=cards, max={"card": "gpt-4"})


def test_nothing_is_started_unless_asked() -> None:
    assert started(urls=[HERE], cards=[SMALL_CARD], engine="none") == []


def test_two_engines_cannot_share_a_port_for_metrics() -> None:
    with pytest.raises(ConfigurationError, match=r"max\.metrics_port is for one engine"):
        started(urls=[HERE, THERE], cards=[SMALL_CARD, EMBEDDING_CARD], max={"metrics_port": 9000})
