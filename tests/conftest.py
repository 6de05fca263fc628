"""Shared by all tests: a clean environment, the event loop, model files and gateways."""

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from maxgate.model_cards.loader import ModelFiles
from maxgate.prompts.tokenizer import PromptTokenizer, load_tokenizer
from maxgate.settings_names import LOCATIONS, STANDARD_VARIABLES
from tests.fakes.garbage import collect_garbage
from tests.fakes.gateway import (
    EMBEDDING_MODEL,
    Gateway,
    StartGateway,
    start,
    start_with_embeddings,
)

if TYPE_CHECKING:
    from tests.fakes.postgres_server import PostgresServer

ROOT = Path(__file__).parent.parent
SMALL_MODEL = "smollm2-135m-instruct"
# MAX loads while other tests run, and is gone before tests that measure time.
ORDER = ("contract", "unit", "engine", "integration")


def pytest_configure() -> None:
    """Start programs with the default effect of signals, also under nohup and in the background.

    An ignored signal stays ignored in child processes, but a handler is reset.
    """
    gc.disable()  # until the tests are collected, which leaves no garbage
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by folder; those that run alone must be where `make test` looks for them."""
    for item in items:
        alone = any(item.iter_markers("engine")) or any(item.iter_markers("timing"))
        assert not alone or _find_folder(item.path) in {"engine", "integration"}, item.nodeid
    items.sort(key=lambda item: ("", *ORDER).index(_find_folder(item.path)))


def pytest_collection_finish() -> None:
    """Start garbage collection, as rarely as in a gateway, and not of what was collected."""
    gc.set_threshold(20_000)
    gc.freeze()
    gc.enable()


def _find_folder(path: Path) -> str:
    return path.relative_to(ROOT / "tests").parts[0] if path.parent != ROOT / "tests" else ""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """Collect the garbage of a file after its last test, which fails if something was left open.

    Objects that stay are not visited again: those of thousands of tests would take most of the
    time.
    """
    if nextitem is None or nextitem.path != item.path:
        item.funcargs.clear()  # pytest keeps them a little longer
        collect_garbage(str(item.path.relative_to(ROOT)))
        gc.freeze()


@pytest.fixture(autouse=True)
def _forget_logging() -> Iterator[None]:
    """Undo what a test has configured, also for loggers that keep it from their first use."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        for name, module in list(sys.modules.items()):
            if name.startswith("maxgate.") and (log := getattr(module, "_log", None)) is not None:
                vars(log).pop("bind", None)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's own settings, in this process and its children."""
    for name in os.environ:
        if name.startswith("MAXGATE_") or name in STANDARD_VARIABLES:
            monkeypatch.delenv(name)
    for name in LOCATIONS:
        monkeypatch.setenv(name, "")  # no maxgate.yaml, .env or secrets either


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run tests on asyncio only, as uvicorn and the gateway do."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """A PostgreSQL server; a test that stops it starts it again."""
    from tests.fakes.postgres_server import start_postgres  # needs ROOT from here

    with start_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The directory of the prepared small model; `make test` prepares it."""
    directory = ModelFiles.locate(Path("~/.cache/maxgate")).models_dir / SMALL_MODEL
    assert directory.is_dir(), f"run: maxgate models prepare {SMALL_MODEL}"
    return directory


@pytest.fixture(scope="session")
def small_tokenizer(small_model: Path) -> PromptTokenizer:
    """The small model's tokenizer, rebuilt from its GGUF file."""
    return load_tokenizer(small_model)


@pytest.fixture(scope="session")
def embedding_model() -> Path:
    """The directory of the prepared embedding model; `make test` prepares it."""
    directory = ModelFiles.locate(Path("~/.cache/maxgate")).models_dir / EMBEDDING_MODEL
    assert directory.is_dir(), f"run: maxgate models prepare {EMBEDDING_MODEL}"
    return directory


@pytest.fixture
def start_gateway() -> StartGateway:
    """Return a function that runs a gateway with these settings in front of this fake MAX."""
    return start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> AsyncIterator[Gateway]:
    """A gateway with default settings."""
    async with start_gateway() as started:
        yield started


@pytest.fixture
async def embedding_gateway(
    embedding_model: Path,  # the gateway reads its tokenizer
) -> AsyncIterator[Gateway]:
    """A gateway with default settings, whose engine serves an embedding model."""
    async with start_with_embeddings() as started:
        yield started
