"""Alerts: a number that stays beyond a bound for a while."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from maxgate.errors import ConfigurationError
from maxgate.monitor.catalogue import CATALOGUE
from maxgate.monitor.metrics import Numbers

Severity = Literal["warning", "critical"]


class Rule(BaseModel):
    """One line of a file of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str
    """One of quantities.py, as in `gateway.ttft_p95`."""
    above: float | None = None
    """The alert is on while the number is higher than this, in the number's own unit."""
    below: float | None = None
    """The alert is on while the number is lower than this."""
    seconds: Annotated[float, Field(ge=0, alias="for")] = 0
    """How long it has to be so before anybody is told."""
    severity: Severity = "warning"
    text: str = ""
    """What to say; the number and the bound are added."""

    @field_validator("number")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CATALOGUE:
            raise ValueError(f"there is no number {name!r}; `monitor.py --numbers` lists them")
        return name

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("give one of `above` and `below`")
        return self

    def broken_by(self, value: float) -> bool:
        """Whether the value is beyond the bound."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that is broken, the value now, and since when, in the snapshots' `elapsed`."""

    rule: Rule
    value: float
    since: float


def _rule(number: str, text: str, **fields: object) -> Rule:
    return Rule.model_validate({"number": number, "text": text, **fields})


DEFAULT_RULES: Final = (
    _rule("gateway.up", "the gateway cannot be read", below=1, severity="critical"),
    _rule("engines.healthy", "no engine can be asked", below=1, severity="critical"),
    _rule("gateway.error_share", "requests fail", above=0.001, severity="critical"),
    _rule("gateway.latency_p50", "half of all answers are late", above=0.4, **{"for": 10}),
    _rule("gateway.latency_p95", "answers are late", above=0.8, **{"for": 10}),
    _rule("gateway.latency_p99", "the slowest answers are late", above=1.2, **{"for": 10}),
    _rule("max.preemptions", "MAX evicts requests", above=0),
    _rule("max.kv_used", "MAX's KV cache is full", above=0.95, **{"for": 10}),
    _rule("host.memory", "memory is short", above=0.95, **{"for": 10}),
    _rule("host.disk", "the disk is full", above=0.95),
    _rule("gpu.slowed", "a GPU is slowed down", above=0, **{"for": 10}),
)
"""Without a file of one's own; the latencies are the design's targets."""


class Alerts:
    """Tells which rules are broken, once they have been for their time."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._since: dict[int, float] = {}

    def update(self, elapsed: float, numbers: Numbers) -> list[Alert]:
        """The alerts that are on now; a number that is not known breaks no rule."""
        alerts = []
        for index, rule in enumerate(self._rules):
            value = numbers.get(rule.number)
            if value is None or not rule.broken_by(value):
                self._since.pop(index, None)
                continue
            since = self._since.setdefault(index, elapsed)
            if elapsed - since >= rule.seconds:
                alerts.append(Alert(rule, value, since))
        return sorted(alerts, key=lambda alert: alert.rule.severity != "critical")


def load_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a YAML file: `rules:`, a list of what Rule has.

    Raises ConfigurationError, which names the file, the place in it and what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is not YAML: {detail}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("rules"), list):
        raise ConfigurationError(f"{path}: expected `rules:` with a list under it")
    return tuple(_read(path, number, rule) for number, rule in enumerate(content["rules"], 1))


def _read(path: Path, number: int, rule: object) -> Rule:
    try:
        return Rule.model_validate(rule)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        place = f"{path}: rule {number}" + (f", {where}" if where else "")
        raise ConfigurationError(f"{place}: {what}") from error
