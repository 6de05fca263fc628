"""The files of Prometheus and Grafana are valid, complete and documented."""

import re
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from maxgate.telemetry.registry import METRICS
from tests.conftest import ROOT
from tests.fakes.dashboards import FILES, FOLDER, Query, list_panels, list_queries, load_dashboard
from tests.fakes.manifests import FOLDER as KUBERNETES
from tests.fakes.prometheus_server import FOLDER as PROMETHEUS
from tests.fakes.prometheus_server import fill_variables, run_promtool

DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_RULES: Final = [str(path) for path in sorted((PROMETHEUS / "rules").iterdir())]
UNITS: Final = {metric.name: metric.unit for metric in METRICS}
_NAME: Final = re.compile(
    r"\b(?:[a-z_]+:)?(?:maxgate|maxserve|max)_[a-z_0-9]+(?::\w+)?|maxgate:[\w:]+"
)


class Target(BaseModel):
    """A query, as Grafana needs it."""

    model_config = ConfigDict(extra="forbid")

    refId: str = Field(pattern="^[A-Z]$")  # noqa: N815  # Grafana's names
    datasource: dict[str, str]
    expr: str = Field(min_length=1)
    legendFormat: str  # noqa: N815
    editorMode: Literal["code"]  # noqa: N815
    range: bool
    instant: bool
    format: Literal["heatmap", "table"] | None = None


class Position(BaseModel):
    """A place in Grafana's grid of 24 columns."""

    model_config = ConfigDict(extra="forbid")

    x: int = Field(ge=0, le=23)
    y: int = Field(ge=0)
    w: int = Field(ge=1, le=24)
    h: int = Field(ge=1)

    def list_cells(self) -> set[tuple[int, int]]:
        """Return the cells that it covers."""
        return {
            (x, y) for x in range(self.x, self.x + self.w) for y in range(self.y, self.y + self.h)
        }


class Panel(BaseModel):
    """A panel or row; options of its kind are not checked further."""

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=1)
    type: Literal["row", "timeseries", "stat", "bargauge", "table", "heatmap"]
    title: str = Field(min_length=1)
    gridPos: Position  # noqa: N815
    description: str = ""
    datasource: dict[str, str] | None = None
    fieldConfig: dict[str, Any] | None = None  # noqa: N815
    options: dict[str, Any] | None = None
    targets: list[Target] = []
    transformations: list[dict[str, Any]] = []
    collapsed: bool = False
    panels: list[Any] = Field(default=[], max_length=0)


class Dashboard(BaseModel):
    """A dashboard that Grafana 10 and 11 load without a migration of its schema."""

    model_config = ConfigDict(extra="forbid")

    uid: str = Field(pattern="^maxgate-[a-z]+$", max_length=40)
    title: str = Field(pattern="^maxgate: ")
    description: str = Field(min_length=1)
    tags: list[str] = Field(min_length=1)
    schemaVersion: Literal[39]  # noqa: N815
    version: int = Field(ge=1)
    editable: Literal[False]
    graphTooltip: Literal[1]  # noqa: N815
    refresh: str
    time: dict[Literal["from", "to"], str]
    timezone: Literal["browser"]
    fiscalYearStartMonth: int  # noqa: N815
    weekStart: str  # noqa: N815
    liveNow: bool  # noqa: N815
    annotations: dict[Literal["list"], list[dict[str, Any]]]
    links: list[dict[str, Any]]
    templating: dict[Literal["list"], list[dict[str, Any]]]
    panels: list[Panel] = Field(min_length=1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestDashboard:
    def test_schema(self, file: Path) -> None:
        """A dashboard has all fields that Grafana needs, and no others."""
        dashboard = Dashboard.model_validate(load_dashboard(file), strict=True)
        ids = [panel.id for panel in dashboard.panels]
        assert len(set(ids)) == len(ids)
        for panel in dashboard.panels:
            assert (panel.type == "row") == (panel.targets == []), panel.title
            references = [target.refId for target in panel.targets]
            assert len(set(references)) == len(references), panel.title
            sources = [panel.datasource, *(target.datasource for target in panel.targets)]
            assert panel.type == "row" or all(source == DATA_SOURCE for source in sources)

    def test_layout(self, file: Path) -> None:
        """Panels do not overlap, and none leaves the grid."""
        taken: set[tuple[int, int]] = set()
        for panel in Dashboard.model_validate(load_dashboard(file)).panels:
            cells = panel.gridPos.list_cells()
            assert panel.gridPos.x + panel.gridPos.w <= 24, panel.title
            assert not cells & taken, panel.title
            taken |= cells

    def test_variables(self, file: Path) -> None:
        """Queries use declared variables only, and each declared one is used."""
        dashboard = load_dashboard(file)
        names = [variable["name"] for variable in dashboard["templating"]["list"]]
        expressions = [t["expr"] for panel in list_panels(dashboard) for t in panel["targets"]]
        for expression in expressions:
            fill_variables(expression, dict.fromkeys(names, ".*"))
        unused = {name for name in names if not any(f"${name}" in one for one in expressions)}
        assert unused == {"datasource"}


def test_uids() -> None:
    """Dashboards have different uids, and the file name is that part of the uid that differs."""
    uids = [load_dashboard(file)["uid"] for file in FILES]
    assert uids == [f"maxgate-{file.stem}" for file in FILES]


def find_units(expression: str) -> set[str]:
    """Return the units of the metrics in a query, from the registry and by the names of rules."""
    units = set()
    for name in _NAME.findall(expression):
        base = re.sub(r"_(bucket|sum|count|count_total)$", "", name)
        known = UNITS.get(base)
        suffix = re.search(r"(seconds|milliseconds|bytes|tokens|ratio|rate|rate5m)(_total)?$", base)
        operation = base.rpartition(":")[2] if ":" in base else ""
        if "latency" in base:
            units.add("seconds")
        elif operation.startswith("ratio"):
            units.add("ratio")
        elif operation.startswith("rate"):
            units.add("requests/s")
        elif base == "maxserve_request":  # without `_count`, as of a histogram
            units.add("requests")
        else:
            units.add(known or (suffix[1] if suffix else "count"))
    return units


_BASE_UNITS: Final = {
    "seconds": "s",
    "milliseconds": "ms",
    "bytes": "bytes",
    "celsius": "celsius",
    "watts": "watt",
    "boolean": "bool",
}
_RATES: Final = {"tokens": "suffix: tok/s", "requests": "reqps", "requests/s": "reqps"}


def expect_unit(query: Query) -> str:
    """Return Grafana's unit for a query: that of its metrics, of their share or of their rate."""
    units, expression = find_units(query.expression), query.expression
    is_rate = "rate(" in expression and "histogram_quantile" not in expression
    if re.search(r"error_budget|^sum\(max|^count\(|batch_size", expression):
        return "percentunit" if expression.startswith("1 - ") else "short"
    if "ratio" in units or re.search(r"\) / \(|_cores|^1 - ", expression):
        return "percentunit"
    if "currency" in units or expression.startswith("rate(maxgate_process_cpu_seconds"):
        return "short"  # money, and cores
    [unit] = units or {"count"}
    if is_rate or unit == "requests/s":
        return _RATES.get(unit, "ops")
    return "bool" if expression.startswith("up{") else _BASE_UNITS.get(unit, "short")


def test_units() -> None:
    """The unit of each panel is that of the metrics that its queries read."""
    queries = list(list_queries())
    assert {q: q.unit for q in queries} == {q: expect_unit(q) for q in queries}


def test_rules() -> None:
    """Every alert fires in a test and is silent in another, by promtool."""
    code, output = run_promtool("test", "rules", "tests/alerts.yml", "tests/recording.yml")
    assert code == 0, output
    tests = (PROMETHEUS / "tests" / "alerts.yml").read_text()
    fired = set(re.findall(r'alertname="(\w+)"', tests))
    silent = {
        name for line in re.findall(r"^  # (.*)$", tests, re.MULTILINE) for name in line.split(", ")
    }
    assert fired == {alert["alert"] for alert in list_alerts()}
    assert fired <= {name.strip(",") for name in silent}


def test_configuration() -> None:
    """Promtool accepts the configuration and the rules; the file of the key is in the container."""
    for arguments in (("config", "--syntax-only", "prometheus.yml"), ("rules", *_RULES)):
        code, output = run_promtool("check", *arguments)
        assert code == 0, output


def list_alerts() -> list[dict[str, Any]]:
    """Return the alerts as they are written."""
    groups = yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_runbook() -> None:
    """Each alert links to its section of docs/dashboards.md, in the order of the rules."""
    page = (ROOT / "docs" / "dashboards.md").read_text()
    sections = re.findall(r"^#### (\w+)$", page, re.MULTILINE)
    rules = yaml.safe_load((KUBERNETES / "components" / "monitoring" / "rules.yaml").read_text())
    alerts = [*list_alerts(), *(one for group in rules["spec"]["groups"] for one in group["rules"])]
    assert sections == [alert["alert"] for alert in alerts]
    links = [alert["annotations"]["runbook_url"] for alert in alerts]
    page_url = "{{ $externalLabels.maxgate_source }}docs/dashboards.md"
    assert links == [f"{page_url}#{name.lower()}" for name in sections]
    assert {alert["labels"]["severity"] for alert in alerts} == {"critical", "warning"}


def test_provisioning() -> None:
    """Dashboards choose the data source by default, and cannot be changed in Grafana."""
    folder = FOLDER / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((folder / "dashboards" / "maxgate.yml").read_text())["providers"]
    chosen = {
        variable["current"]["value"]
        for file in FILES
        for variable in load_dashboard(file)["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert chosen == {source["uid"]}
    assert provider["options"] == {"path": "/var/lib/grafana/dashboards"}
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)
