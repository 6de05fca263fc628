"""Collect the spans of a gateway, and describe them without ids and times."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fakes.waiting import until

VARYING = ("gen_ai.response.time_to_first_chunk", "maxgate.request.id", "server.port", "url.full")
"""Attributes that differ from run to run."""


class CollectedSpans:
    """The spans of finished requests; `processor` is for the gateway."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.processor = SimpleSpanProcessor(self._exporter)

    async def wait(self) -> Sequence[ReadableSpan]:
        """Return the spans of the one request, once it has ended."""

        async def has_ended() -> bool:
            return any(span.kind.name == "SERVER" for span in self._exporter.get_finished_spans())

        await until(has_ended)
        return self._exporter.get_finished_spans()

    def clear(self) -> None:
        """Forget the spans."""
        self._exporter.clear()


def describe(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return the tree of a request's spans; checks that children are within their parent."""
    [root] = [span for span in spans if span.kind.name == "SERVER"]
    children = sorted((s for s in spans if s is not root), key=lambda span: span.start_time)
    for child in children:
        assert child.parent.span_id == root.context.span_id
        assert child.context.trace_id == root.context.trace_id
        assert root.start_time <= child.start_time <= child.end_time <= root.end_time
    return {**_describe_span(root), "children": [_describe_span(child) for child in children]}


def _describe_span(span: ReadableSpan) -> dict[str, Any]:
    attributes = {
        name: "*" if name in VARYING else value for name, value in (span.attributes or {}).items()
    }
    found = {"name": span.name, "kind": span.kind.name, "status": span.status.status_code.name}
    return {**found, "attributes": attributes} if attributes else found
