"""Declarations of metrics follow the conventions of Prometheus."""

from typing import Any, get_args

import pytest

from maxgate.generation.context import ServiceClass
from maxgate.generation.request_record import Outcome, Refusal
from maxgate.telemetry import registry
from maxgate.telemetry.registry import METRICS, OUTCOME, REFUSAL, SERVICE_CLASS, Label, Metric


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
class TestMetric:
    def test_prefix(self, metric: Metric) -> None:
        """Names start with the name of the gateway."""
        assert metric.name.startswith("maxgate_")

    def test_counter_suffix(self, metric: Metric) -> None:
        """Counters, and only counters, end in `_total`."""
        assert metric.name.endswith("_total") == (metric.kind == "counter")

    def test_unit_suffix(self, metric: Metric) -> None:
        """Names of durations and sizes end in their unit."""
        base = metric.name.removesuffix("_total")
        units = {unit for unit in ("seconds", "bytes") if base.endswith(f"_{unit}")}
        assert units == {metric.unit} & {"seconds", "bytes"}

    def test_label_order(self, metric: Metric) -> None:
        """Labels with declared values follow the others, as the layout of a row requires."""
        is_closed = [label.values is not None for label in metric.labels]
        assert is_closed == sorted(is_closed)

    def test_help(self, metric: Metric) -> None:
        """The help text is a sentence on one line."""
        assert (metric.help[-1], "\n" in metric.help) == (".", False)


def test_names_are_unique() -> None:
    """No name is declared twice."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_all_are_declared() -> None:
    """Every metric of the module is in METRICS."""
    assert [value for value in vars(registry).values() if isinstance(value, Metric)] == METRICS


@pytest.mark.parametrize(
    ("label", "values"), [(OUTCOME, Outcome), (REFUSAL, Refusal), (SERVICE_CLASS, ServiceClass)]
)
def test_label_values(label: Label, values: Any) -> None:
    """The label has exactly the values that a request has."""
    assert label.values is not None
    assert tuple(label.values) == get_args(values)
