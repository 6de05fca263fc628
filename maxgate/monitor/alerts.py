"""Alert rules: a metric beyond a bound for some time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from maxgate.errors import ConfigurationError
from maxgate.monitor.catalogue import METRICS
from maxgate.monitor.metrics import Metrics
from maxgate.results.report import DESIGN_TARGETS
from maxgate.settings_section import choose_error
from maxgate.yaml_text import parse_yaml

Severity = Literal["warning", "critical"]


class Rule(BaseModel):
    """One entry of a rules file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    # `number` is the old name. It is still read, and still the key in `--json`.
    metric: Annotated[
        str,
        Field(validation_alias=AliasChoices("metric", "number"), serialization_alias="number"),
    ]
    """Name of the metric, for example `gateway.ttft_p95`."""
    above: float | None = None
    """Alert while the metric is above this value, in the metric's unit."""
    below: float | None = None
    """Alert while the metric is below this value, in the metric's unit."""
    duration: Annotated[float, Field(ge=0, alias="for")] = 0
    """Seconds for which the metric must stay beyond the bound before the alert fires."""
    severity: Severity = "warning"
    """`critical` alerts are listed first."""
    text: str = ""
    """Message of the alert; the metric and the bound are appended."""

    @field_validator("metric")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; `monitor.py --list-metrics` lists all")
        return name

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("give either `above` or `below`")
        return self

    def is_violated_by(self, value: float) -> bool:
        """Whether the value is beyond the bound."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below


def _rule(metric: str, text: str, **fields: object) -> Rule:
    return Rule.model_validate({"metric": metric, "text": text, **fields})


DESIGN_RULES: Final = (
    _rule("gateway.up", "gateway unreachable", below=1, severity="critical"),
    _rule("engines.healthy", "no healthy engine", below=1, severity="critical"),
    _rule(
        "gateway.error_share",
        "requests fail",
        above=DESIGN_TARGETS["error_rate"],
        severity="critical",
    ),
    *[
        _rule(f"gateway.latency_{name}", text, above=DESIGN_TARGETS[name], **{"for": 10})
        for name, text in (
            ("p50", "median latency is high"),
            ("p95", "P95 latency is high"),
            ("p99", "P99 latency is high"),
        )
    ],
    _rule("max.preemptions", "MAX evicts requests", above=0),
    _rule("max.kv_used", "MAX's KV cache is full", above=0.95, **{"for": 10}),
    _rule("host.memory", "host memory is low", above=0.95, **{"for": 10}),
    _rule("host.disk", "disk is full", above=0.95),
    _rule("gpu.slowed", "GPU is throttled", above=0, **{"for": 10}),
)
"""Rules of `--targets design`: the design's targets, failures and full resources."""


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read a YAML file with a list of rules under `rules:`.

    Raises ConfigurationError, naming the file, the rule, the field and the problem.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("rules"), list):
        raise ConfigurationError(f"{path}: expected a list of rules under `rules:`")
    return tuple(_parse_rule(path, n, rule) for n, rule in enumerate(content["rules"], 1))


def _parse_rule(path: Path, position: int, content: object) -> Rule:
    try:
        return Rule.model_validate(content)
    except ValidationError as error:
        first = choose_error(error)
        field = ".".join(map(str, first["loc"]))
        place = f"{path}: rule {position}" + (f", {field}" if field else "")
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{place}: {problem}") from error


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing rule with the current value; `since` is the `elapsed` of the first violation."""

    rule: Rule
    value: float
    since: float


class AlertTracker:
    """Tracks how long each rule has been violated."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._since: dict[int, float] = {}

    def update(self, elapsed: float, metrics: Metrics) -> list[Alert]:
        """The firing alerts, critical ones first; unknown metrics violate no rule."""
        alerts = []
        for index, rule in enumerate(self._rules):
            value = metrics.get(rule.metric)
            if value is None or not rule.is_violated_by(value):
                self._since.pop(index, None)
                continue
            since = self._since.setdefault(index, elapsed)
            if elapsed - since >= rule.duration:
                alerts.append(Alert(rule, value, since))
        return sorted(alerts, key=lambda alert: alert.rule.severity != "critical")
