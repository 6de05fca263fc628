"""One real gateway for all tests with an engine.

It starts right after collection, so that MAX loads while earlier tests run, and is killed after the
last test that needs it.
"""

from pathlib import Path

import pytest

from tests.engine.real_gateway import RealGateway

_GATEWAY = pytest.StashKey[RealGateway]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the gateway if a selected test needs it."""
    if any(map(_needs_engine, session.items)) and not session.config.option.collectonly:
        session.stash[_GATEWAY] = RealGateway.start()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Kill the gateway after the last test that needs it."""
    if nextitem is None or not _needs_engine(nextitem):
        item.session.stash[_GATEWAY].kill()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kill the gateway if the run ends before the last test."""
    if _GATEWAY in session.stash:
        session.stash[_GATEWAY].kill()


@pytest.fixture(scope="session")
def real_gateway(
    request: pytest.FixtureRequest, small_model: Path, embedding_model: Path
) -> RealGateway:
    """The gateway, once both engines are healthy."""
    assert small_model.is_dir()
    assert embedding_model.is_dir()
    gateway: RealGateway = request.session.stash[_GATEWAY]
    gateway.wait_until_ready()
    return gateway


def _needs_engine(item: pytest.Item) -> bool:
    return item.get_closest_marker("engine") is not None
