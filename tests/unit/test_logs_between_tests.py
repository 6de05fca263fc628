"""Tests see the log whatever other tests have configured."""

from pathlib import Path

import structlog
from structlog.testing import capture_logs

from maxgate.stores import database
from maxgate.telemetry.logging import configure_logging


def test_configured(tmp_path: Path) -> None:
    """A logger of a module keeps the configuration of its first use."""
    with (tmp_path / "log").open("w") as stream:
        configure_logging("json", stream)
        database._log.info("first use")
    assert structlog.is_configured()


def test_after_another_test() -> None:
    """The next test can capture what the same logger writes."""
    with capture_logs() as lines:
        database._log.info("second use")
    assert lines == [{"event": "second use", "log_level": "info"}]
