"""`maxgate engine`: `show` inspects engines, `start` stops with its parent."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from maxgate.cli.engine import EngineReport, _call_when_closed, inspect_engines, inspect_prompts
from maxgate.generation.catalog import Capabilities
from maxgate.model_cards.card import ModelCard
from maxgate.prompts.registry import UNPROTECTED
from maxgate.settings import Settings
from tests.conftest import ROOT
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import free_port
from tests.fakes.server import serving


async def show(*args: str) -> "subprocess.CompletedProcess[str]":
    """Run `maxgate engine show`."""
    command = [sys.executable, "-m", "maxgate", "engine", "show", *args]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
    )


async def test_show_table() -> None:
    """The table has one row per model; notes explain what is missing and how to add it."""
    capable = FakeMax(models=["a", "b"], grammar=True)
    plain = FakeMax(penalties=False, min_tokens=False)
    async with serving(capable) as one, serving(plain) as other:
        result = await show("--engine-url", one, "--engine-url", other)
    width = max(len(one), len(other))
    head = "  STATE    MODEL                  GRAMMAR  LOGPROBS  PENALTIES  MIN_TOKENS  PROMPTS"
    assert result.stdout.splitlines() == [
        "ENGINE".ljust(width) + head,
        f"{one:{width}}  healthy  a                      yes      yes       yes        yes         "
        "engine",
        f"{one:{width}}  healthy  b                      yes      yes       yes        yes         "
        "engine",
        f"{other:{width}}  healthy  smollm2-135m-instruct  no       yes       no         no"
        "          gateway",
        "grammar: start MAX with --enable-structured-output (GPU)",
        "penalties: start MAX with --enable-penalties",
        "min_tokens: start MAX with --enable-min-tokens",
        *[
            f"prompts of {name}: it has no model card, so {UNPROTECTED}; write one: "
            "docs/model-cards.md"
            for name in "ab"
        ],
    ]
    assert (result.returncode, result.stderr) == (0, "")


async def test_show_unreachable_engine() -> None:
    """An unreachable engine is listed beside the others, and the exit code is 1."""
    unreachable = f"http://localhost:{free_port()}"
    async with serving(FakeMax(models=["a"])) as url:
        result = await show("--json", "--engine-url", url, "--engine-url", unreachable)

    def engine(url: str, **rest: Any) -> dict[str, Any]:
        return {"url": url, **rest}

    capabilities = {
        "a": {"grammar": False, "logprobs": True, "penalties": True, "min_tokens": True}
    }
    assert orjson.loads(result.stdout) == {
        "engines": [
            engine(
                url,
                state="healthy",
                models=["a"],
                error=None,
                capabilities=capabilities,
                software="MAX",
            ),
            engine(
                unreachable,
                state="unreachable",
                models=[],
                error="connection refused",
                capabilities={},
                software=None,
            ),
        ],
        "prompts": {"a": "engine"},
    }
    assert result.returncode == 1
    assert result.stderr == (
        f"maxgate: no engine at {unreachable} (connection refused): start MAX there with "
        "`maxgate engine start`, or set its URL with --engine-url\n"
    )


async def test_show_embedding_models() -> None:
    """Embedding models are listed, but not probed for capabilities of generation."""
    max_server = FakeMax(models=[EMBEDDING_MODEL, "other"])
    async with serving(max_server) as url:
        settings = Settings(engines=[url + "/"], cards=[EMBEDDING_CARD])
        reports = await inspect_engines(settings, [EMBEDDING_MODEL])
    capabilities = {"other": Capabilities(False, True, True, True)}
    assert reports == [
        EngineReport(url, "healthy", [EMBEDDING_MODEL, "other"], None, capabilities, "MAX")
    ]


async def test_show_missing_tokenizer(tmp_path: Path) -> None:
    """A missing tokenizer is reported with the command that fetches it."""

    def card(name: str, **fields: Any) -> ModelCard:
        fields = {"prompt": "llama3", "tokenizer": f"owner/{name}", **fields}
        return ModelCard(name=name, context_length=10, **fields)

    cards = [
        card("open"),
        card("strict", require_tokenizer=True),
        card("vectors", task="embeddings", prompt="engine", dimensions=3),
    ]
    settings = Settings(cache_dir=tmp_path)
    software = dict.fromkeys(["open", "strict", "vectors", "stranger"], "MAX")
    models = await inspect_prompts(settings, cards, software)
    assert {name: prompts.source for name, prompts in models.items()} == {
        "open": "engine",
        "strict": "unavailable",
        "vectors": "unavailable",
        "stranger": "engine",
    }
    fixes = [prompts.problem.fix for prompts in models.values() if prompts.problem]
    assert [fix.partition("hf download ")[2] for fix in fixes] == [
        "owner/open tokenizer.json",
        "owner/strict tokenizer.json",
        "owner/vectors tokenizer.json",
        "",
    ]


async def test_show_other_software() -> None:
    """Engines other than MAX format prompts themselves, and flags of MAX do not help them."""
    async with serving(FakeMax(owned_by="vllm", penalties=False)) as url:
        result = await show("--engine-url", url)
    [_, row, *notes] = result.stdout.splitlines()
    assert (row.split()[-1], notes) == (
        "engine",
        [
            f"prompts of smollm2-135m-instruct: its engine is vLLM, so {UNPROTECTED}; only MAX "
            "takes token ids as prompts"
        ],
    )


async def test_show_invalid_url() -> None:
    """The command checks its settings as `maxgate serve` does."""
    result = await show("--engine-url", "gpu-box:8000")
    assert (result.returncode, result.stdout) == (2, "")
    assert "'gpu-box:8000' is not a URL; write http://host:port" in result.stderr


async def test_closed_pipe() -> None:
    """The callback runs once, although a closed pipe stays readable."""
    reader, writer = os.pipe()
    calls: list[str] = []
    _call_when_closed(reader, lambda: calls.append("closed"))

    os.close(writer)
    for _ in range(20):  # iterations of the event loop
        await asyncio.sleep(0)

    os.close(reader)
    assert calls == ["closed"]
