"""`maxgate engine show` tells of each engine what it is and what it can do."""

import asyncio
import subprocess
import sys
from typing import Any

import orjson

from maxgate.cli.engine import SeenEngine, look_at
from maxgate.generation.catalog import Capabilities
from maxgate.settings import Settings
from tests.conftest import ROOT
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import free_port
from tests.fakes.server import serving


async def shown(*args: str) -> "subprocess.CompletedProcess[str]":
    """What the command says."""
    command = [sys.executable, "-m", "maxgate", "engine", "show", *args]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
    )


async def test_a_table_tells_what_each_model_of_each_engine_can_do() -> None:
    able = FakeMax(models=["a", "b"], grammar=True)
    plain = FakeMax(penalties=False)
    async with serving(able) as one, serving(plain) as other:
        result = await shown("--engine-url", one, "--engine-url", other)
    width = max(len(one), len(other))
    assert result.stdout.splitlines() == [
        f"{'ENGINE':{width}}  STATE    MODEL                  GRAMMAR  LOGPROBS  PENALTIES",
        f"{one:{width}}  healthy  a                      yes      yes       yes",
        f"{one:{width}}  healthy  b                      yes      yes       yes",
        f"{other:{width}}  healthy  smollm2-135m-instruct  no       yes       no",
        "grammar: MAX has it when started with --enable-structured-output (GPU)",
        "penalties: MAX has it when started with --enable-penalties",
    ]
    assert (result.returncode, result.stderr) == (0, "")


async def test_an_engine_that_is_away_is_shown_beside_the_others_and_fails_the_command() -> None:
    away = f"http://localhost:{free_port()}"
    async with serving(FakeMax(models=["a"])) as there:
        result = await shown("--json", "--engine-url", there, "--engine-url", away)
    capabilities = {"a": {"grammar": False, "logprobs": True, "penalties": True}}
    assert orjson.loads(result.stdout) == {
        "engines": [
            engine(there, state="healthy", models=["a"], error=None, capabilities=capabilities),
            engine(away, state="unreachable", models=[], error="no connection", capabilities={}),
        ]
    }
    assert result.returncode == 1
    assert result.stderr == (
        f"maxgate: no engine at {away} (no connection): start MAX there with "
        "`maxgate engine start`, or say where it is with --engine-url\n"
    )


def engine(url: str, **rest: Any) -> dict[str, Any]:
    """An engine in the JSON."""
    return {"url": url, **rest}


async def test_models_for_embeddings_are_not_asked_to_generate() -> None:
    max_server = FakeMax(models=[EMBEDDING_MODEL, "other"])
    async with serving(max_server) as url:
        settings = Settings(engine_urls=[url + "/"], cards=[EMBEDDING_CARD])
        seen = await look_at(settings, [EMBEDDING_MODEL])
    able = Capabilities(grammar=False, logprobs=True, penalties=True)
    assert seen == [SeenEngine(url, "healthy", [EMBEDDING_MODEL, "other"], None, {"other": able})]


async def test_the_settings_are_those_of_the_gateway() -> None:
    result = await shown("--engine-url", "gpu-box:8000")
    assert (result.returncode, result.stdout) == (2, "")
    assert "'gpu-box:8000' is not a URL; write http://host:port" in result.stderr
