"""The interfaces that users see are the same as in the files under tests/data/golden.

`UPDATE_GOLDEN=1 pytest tests/integration/test_golden_files.py` rewrites the files. The schema of
load test reports is in docs/ and has its own test.
"""

import os
import re
import runpy
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, SMALL_MODEL
from tests.fakes.gateway import EMBEDDING_MODEL, Gateway, start_with_embeddings
from tests.fakes.max_server import FakeMax

GOLDEN = ROOT / "tests" / "data" / "golden"
COMMANDS = [
    "maxgate",
    "maxgate serve",
    "maxgate models",
    "maxgate models list",
    "maxgate models show",
    "maxgate models prepare",
    "maxgate models remove",
    "maxgate models swap",
    "maxgate engine",
    "maxgate engine start",
    "maxgate engine show",
    "maxgate engines",
    "maxgate engines list",
    "maxgate engines add",
    "maxgate engines drain",
    "maxgate engines undrain",
    "maxgate engines remove",
    "maxgate engines canary",
    "maxgate init",
    "maxgate certs",
    "maxgate certs dev",
    "maxgate db",
    "maxgate db upgrade",
    "maxgate db check",
    "maxgate projects",
    "maxgate projects create",
    "maxgate projects list",
    "maxgate projects show",
    "maxgate projects rename",
    "maxgate projects archive",
    "maxgate projects models",
    "maxgate projects models allow",
    "maxgate projects models deny",
    "maxgate projects models clear",
    "maxgate users",
    "maxgate users list",
    "maxgate users add",
    "maxgate users set-role",
    "maxgate users delete",
    "maxgate users projects",
    "maxgate users projects list",
    "maxgate users projects join",
    "maxgate users projects leave",
    "maxgate keys",
    "maxgate keys create",
    "maxgate keys list",
    "maxgate keys show",
    "maxgate keys rotate",
    "maxgate keys block",
    "maxgate keys unblock",
    "maxgate keys revoke",
    "maxgate keys hash",
    "maxgate usage",
    "maxgate usage entries",
    "maxgate usage try-limit",
    "maxgate reload",
    "maxgate load-test",
    "maxgate load-test merge",
    "maxgate monitor",
    "maxgate report",
    "api_server.py",
    "load_test.py",
    "load_test.py merge",
    "monitor.py",
    "visualize_results.py",
]
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")


def compare(name: str, text: str) -> None:
    """Compare the text with the golden file, or write the file if UPDATE_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command prints the same --help, 100 columns wide."""
    program, *arguments = command.split()
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", [program, *arguments, "--help"])
    with pytest.raises(SystemExit) as ended:
        if program.endswith(".py"):
            runpy.run_path(str(ROOT / program), run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    lines = TERMINAL_CODES.sub("", capsys.readouterr().out).splitlines()
    assert ended.value.code == 0
    compare(f"help/{command.replace(' ', '_')}.txt", "\n".join(map(str.rstrip, lines)) + "\n")


@pytest.fixture
async def used_gateway(small_model: Path, embedding_model: Path) -> AsyncIterator[Gateway]:
    """A gateway that has served chat, a stream, embeddings and an invalid request."""
    engine = FakeMax(models=[SMALL_MODEL, EMBEDDING_MODEL])
    async with start_with_embeddings(engine) as gateway:
        responses = [
            await gateway.chat(),
            await gateway.chat(stream=True),
            await gateway.embed("Hello", model=EMBEDDING_MODEL),
            await gateway.chat(temperature=-1),
        ]
        assert [response.status_code for response in responses] == [200, 200, 200, 400]
        yield gateway


async def test_openapi(gateway: Gateway) -> None:
    """The OpenAPI document is the same."""
    document = (await gateway.client.get("/openapi.json")).json()
    compare("openapi.json", _pretty(document))


async def test_prometheus_metrics(used_gateway: Gateway) -> None:
    """Prometheus sees the same metric families, with the same type, help text and labels."""
    response = await used_gateway.client.get("/metrics", headers={"accept": "text/plain"})
    families = [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "samples": {sample.name: sorted(sample.labels) for sample in family.samples},
        }
        for family in text_string_to_metric_families(response.text)
    ]
    compare("prometheus.json", _pretty(sorted(families, key=lambda family: family["name"])))


@pytest.mark.parametrize("path", ["/metrics?buckets=true", "/health"])
async def test_json_keys(used_gateway: Gateway, path: str) -> None:
    """The JSON has the same keys, with values of the same types."""
    document = (await used_gateway.client.get(path)).json()
    keys = sorted(set(_key_types(document, "")))
    compare(f"keys{path.partition('?')[0]}.txt", "\n".join(keys) + "\n")


def _key_types(value: Any, path: str) -> Iterator[str]:
    """The path of every leaf with its type, as in `engines[].url: str`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _key_types(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _key_types(inner, f"{path}[]")
    else:
        yield f"{path}: {type(value).__name__}"


def _pretty(document: Any) -> str:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(document, option=options).decode()
