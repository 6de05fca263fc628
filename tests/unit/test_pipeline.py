"""The order of the layers is the list in pipeline.py."""

from maxgate.fan_out.layer import FanOutLayer
from maxgate.pipeline import build_pipeline, layers
from maxgate.prompts.layer import PromptLayer
from maxgate.structured_output.layer import StructuredOutputLayer
from maxgate.telemetry.layer import TelemetryLayer
from maxgate.tool_calling.strict import StrictCallsLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock


def test_the_first_layer_is_the_outermost() -> None:
    upstream = FakeBackend([])
    backend = build_pipeline(layers(clock=FakeClock(), format_of=lambda _: None), upstream)
    order: list[object] = []
    inner: object = backend
    while inner is not upstream:
        order.append(type(inner))
        inner = inner._inner  # type: ignore[attr-defined]
    assert order == [
        TelemetryLayer,
        FanOutLayer,
        StrictCallsLayer,
        StructuredOutputLayer,
        PromptLayer,
    ]
