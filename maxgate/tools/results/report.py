"""The whole report. Its JSON Schema is published as docs/load-test-report.schema.json."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from maxgate.tools.results.base import Part
from maxgate.tools.results.level import Level
from maxgate.tools.results.run import Definition, Load, Machine, Server, Workload
from maxgate.tools.results.verdict import Change, Drift, Grade, Saturation

FORMAT: Final = "maxgate-load-test"
VERSION: Final = 1
"""Goes up when a reader of the old version would misread the new one."""


class Report(Part):
    """One run of load_test.py."""

    format: Literal["maxgate-load-test"] = FORMAT
    version: Literal[1] = VERSION
    created_at: datetime
    command: list[str]
    seed: int
    interrupted: bool = False
    server: Server
    baseline: Server | None = None
    machine: Machine
    versions: dict[str, str]
    workload: Workload
    load: Load
    objectives: dict[str, float] = Field(default_factory=dict)
    """`--slo`: seconds by metric."""
    definitions: dict[str, Definition]
    levels: list[Level]
    grades: list[Grade] = Field(default_factory=list)
    paired: list[Change] = Field(default_factory=list)
    """`--baseline`: `before` is the baseline, `after` the target."""
    comparison: list[Change] = Field(default_factory=list)
    """`--compare`: `before` is the old report."""
    saturation: Saturation | None = None
    drift: list[Drift] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    records: str | None = None
    """File name, beside the report, of the raw records (see records.py)."""
