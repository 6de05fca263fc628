"""The engines that the gateway starts: one card at each URL."""

from pathlib import Path
from typing import Any

import pytest

from maxgate.cli.engine_process import select_engines
from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings
from tests.fakes.gateway import EMBEDDING_CARD, SMALL_CARD

FIRST, SECOND = "http://localhost:8080", "http://localhost:8082"
CHAT, EMBEDDINGS = "smollm2-135m-instruct", "all-minilm-l6-v2"


def select(urls: list[str], cards: list[Path], **engine: Any) -> list[tuple[str, str]]:
    """Return the selected engines as names and URLs."""
    fields: dict[str, Any] = {"engine": {"mode": "local", **engine}, "engines": urls}
    settings = Settings(**fields, cards=cards)
    starts = select_engines(settings, load_cards(settings.cards))
    return [(start.card.name, start.url) for start in starts]


@pytest.mark.parametrize(
    ("urls", "cards", "expected"),
    [
        ([FIRST, SECOND], [SMALL_CARD, EMBEDDING_CARD], [(CHAT, FIRST), (EMBEDDINGS, SECOND)]),
        ([FIRST, SECOND], [SMALL_CARD], [(CHAT, FIRST)]),
        ([FIRST], [EMBEDDING_CARD, SMALL_CARD], [(CHAT, FIRST)]),
        ([FIRST], [EMBEDDING_CARD], [(EMBEDDINGS, FIRST)]),
        ([FIRST, SECOND], [], [("llama-3.3-8b-instruct-q4_k_m", FIRST)]),
    ],
)
def test_pairing(urls: list[str], cards: list[Path], expected: list[tuple[str, str]]) -> None:
    """Cards and URLs are paired in order; a single URL gets the first chat card."""
    assert select(urls, cards) == expected


@pytest.mark.parametrize("name", [EMBEDDINGS, "all-minilm"])
def test_engine_card(name: str) -> None:
    """With `engine.card`, only that card is started, at the first URL."""
    cards = [SMALL_CARD, EMBEDDING_CARD]
    assert select([FIRST, SECOND], cards, card=name) == [(EMBEDDINGS, FIRST)]


def test_unknown_engine_card() -> None:
    """The error lists the known cards."""
    with pytest.raises(ConfigurationError, match="no model card is named gpt-4; known cards: smol"):
        select([FIRST], [SMALL_CARD], card="gpt-4")


def test_mode_none() -> None:
    """With `engine.mode: none`, no engine is started."""
    assert select([FIRST], [SMALL_CARD], mode="none") == []


def test_shared_metrics_port() -> None:
    """Two engines cannot use one metrics port."""
    with pytest.raises(ConfigurationError, match=r"engine\.metrics_port: it applies to one engine"):
        select([FIRST, SECOND], [SMALL_CARD, EMBEDDING_CARD], metrics_port=9000)
