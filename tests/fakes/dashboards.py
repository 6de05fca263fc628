"""The Grafana dashboards of this project."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana"
FILES: Final = sorted((FOLDER / "dashboards").glob("*.json"))


class Query(NamedTuple):
    """One query of a panel; `unit` is Grafana's name of the panel's unit."""

    dashboard: str
    panel: str
    unit: str
    expression: str


def load_dashboard(file: Path) -> dict[str, Any]:
    """Read a dashboard."""
    dashboard: dict[str, Any] = json.loads(file.read_text())
    return dashboard


def list_panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels with data; rows have none."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def list_queries() -> Iterator[Query]:
    """Yield every query of every panel."""
    for file in FILES:
        for panel in list_panels(load_dashboard(file)):
            unit = panel["fieldConfig"]["defaults"]["unit"]
            for target in panel["targets"]:
                yield Query(file.stem, panel["title"], unit, target["expr"])


def list_variables(dashboard: dict[str, Any]) -> dict[str, str]:
    """Return the queries of the variables by name; that of data sources is left out."""
    return {
        variable["name"]: variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }
