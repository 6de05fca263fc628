"""Import MAX in the background while other tests run."""

import pytest

from tests.integration.max_reading import MaxReading

READING = pytest.StashKey[MaxReading]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start importing MAX, which takes ten seconds, if a selected test needs it."""
    needed = any("max_answers" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        session.stash[READING] = MaxReading()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the process that imports MAX."""
    if READING in session.stash:
        session.stash[READING].end()
