"""docs/metrics.md is what the registry generates."""

from maxgate.telemetry.reference import COMMAND, render_page
from tests.conftest import ROOT


def test_committed_page() -> None:
    """The committed page is current."""
    assert (ROOT / "docs" / "metrics.md").read_text() == render_page(), f"run {COMMAND}"
