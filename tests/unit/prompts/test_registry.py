"""Chat formats are loaded when their tokenizers appear; until then the engine formats prompts."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from maxgate.model_cards.card import ModelCard
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.registry import UNPROTECTED, PromptFormats


def card(prompt: str = "chatml", **fields: object) -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "small",
            "served_model_name": "small-on-max",
            "prompt": prompt,
            "context_length": 10,
            "max": {"model_path": "somewhere"},
            **fields,
        }
    )


class FakeFiles:
    """Finds the tokenizer once `path` is set."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find_tokenizer(self, reference: str) -> Path | None:
        return self.path if reference == "somewhere" else None


async def test_tokenizer_appears(small_model: Path) -> None:
    """A missing tokenizer is logged once, and the format is loaded when it is there."""
    structlog.reset_defaults()
    files = FakeFiles(None)
    formats = PromptFormats([card()], files)
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
        await formats.prepare(["small-on-max"])
        assert formats.by_engine_name == {}
        files.path = small_model / "tokenizer.json"
        await formats.prepare(["small-on-max"])
    assert isinstance(formats.by_engine_name["small-on-max"], ChatMLFormat)
    assert [(log["log_level"], log["event"], log.get("reason")) for log in logs] == [
        (
            "warning",
            "prompts are formatted by the engine",
            "its tokenizer somewhere is not here yet",
        ),
        ("info", "chat template loaded", None),
    ]


async def test_engine_formats(small_model: Path) -> None:
    """A card may leave the format to the engine; a model without a card always does."""
    formats = PromptFormats([card("engine")], FakeFiles(small_model))
    with capture_logs() as logs:
        await formats.prepare(["small-on-max", "unknown"])
    assert not formats.has(card("engine"))
    assert [log["reason"] for log in logs] == [
        "its card says 'prompt: engine'",
        "it has no model card",
    ]


async def test_wrong_format(small_model: Path) -> None:
    """A tokenizer without the special tokens of the card's format is logged."""
    formats = PromptFormats([card("llama3")], FakeFiles(small_model))
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
    assert "does not fit the model" in logs[0]["reason"]


async def test_warning() -> None:
    """The warning states the effect and the command that fetches the tokenizer."""
    formats = PromptFormats([card(tokenizer="owner/name")], FakeFiles(None))
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
    [log] = logs
    assert (log["event"], log["effect"]) == ("prompts are formatted by the engine", UNPROTECTED)
    assert log["fix"].startswith("run: ")
    assert log["fix"].endswith("hf download owner/name tokenizer.json")


@pytest.mark.parametrize("required_by", ["card", "setting"])
async def test_required_tokenizer(required_by: str) -> None:
    """The log says that a model without its required tokenizer is not served."""
    by_card = required_by == "card"
    formats = PromptFormats(
        [card(require_tokenizer=by_card)], FakeFiles(None), require_tokenizer=not by_card
    )
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
    assert [(log["event"], log["effect"]) for log in logs] == [
        ("model is not served", "requests get 503 until this is fixed")
    ]


async def test_new_problem(tmp_path: Path) -> None:
    """A tokenizer that appears but cannot be used is logged after the missing one."""
    files = FakeFiles(None)
    formats = PromptFormats([card()], files)
    damaged = tmp_path / "tokenizer.json"
    damaged.write_text("{")
    with capture_logs() as logs:
        await formats.prepare(["small-on-max"])
        files.path = damaged
        await formats.prepare(["small-on-max"])
        await formats.prepare(["small-on-max"])
    assert [log["fix"].partition(",")[0] for log in logs] == [
        "copy the model's tokenizer.json",
        "correct `prompt` or `tokenizer` in the card",
    ]
