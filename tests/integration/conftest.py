"""What takes long begins when the tests are known."""

import pytest

from tests.integration.max_reading import MaxReading

READING = pytest.StashKey[MaxReading]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """See pytest; to import MAX takes ten seconds."""
    needed = any("max_answers" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        session.stash[READING] = MaxReading()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """See pytest."""
    if READING in session.stash:
        session.stash[READING].end()
