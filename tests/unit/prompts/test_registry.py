"""Formats are loaded when their tokenizer is there, and until then the engine formats."""

from pathlib import Path

import structlog
from structlog.testing import capture_logs

from maxgate.model_cards.card import ModelCard
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.registry import PromptFormats
from tests.fakes.requests import served_model


def card(prompt: str = "chatml") -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "small",
            "served_model_name": "small-on-max",
            "prompt": prompt,
            "context_length": 10,
            "max": {"model_path": "somewhere"},
        }
    )


class Places:
    """Where the tokenizer is, once it is."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find_tokenizer(self, reference: str) -> Path | None:
        return self.path if reference == "somewhere" else None


async def test_a_format_is_there_once_its_tokenizer_is(small_model: Path) -> None:
    structlog.reset_defaults()
    places = Places(None)
    formats = PromptFormats([card()], places)
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
        await formats.prepare(["small-on-max"])
        assert formats.of(served_model(prompt="engine")) is None
        places.path = small_model / "tokenizer.json"
        await formats.prepare(["small-on-max"])
    assert isinstance(formats.of(served_model()), ChatMLFormat)
    assert [(log["log_level"], log["event"], log.get("reason")) for log in logs] == [
        (
            "warning",
            "prompts are formatted by the engine",
            "its tokenizer somewhere is not here yet",
        ),
        ("info", "prompts are formatted here", None),
    ]


async def test_a_card_may_leave_the_format_to_the_engine(small_model: Path) -> None:
    formats = PromptFormats([card("engine")], Places(small_model))
    with capture_logs() as logs:
        await formats.prepare(["small-on-max", "unknown"])
    assert not formats.has(card("engine"))
    assert [log["reason"] for log in logs] == ["its card says so", "no model card names it"]


async def test_a_tokenizer_that_does_not_fit_the_card_is_said(small_model: Path) -> None:
    formats = PromptFormats([card("llama3")], Places(small_model))
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
    assert "does not fit the model" in logs[0]["reason"]
