"""A fake MAX that exports metrics under the names of MAX 26.7, as requests change them."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tests.fakes.max_server import FakeMax

_BLOCKS = 1000


class MeasuredEngine(FakeMax):
    """Counts requests and tokens; every other metric of MAX has plausible values."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, value: float) -> Gauge:
            made = Gauge(f"maxserve_{name}", name, registry=registry)
            made.set(value)
            return made

        def counter(name: str, *labels: str) -> Counter:
            return Counter(f"maxserve_{name}", name, labels, registry=registry)

        def histogram(name: str, *labels: str) -> Histogram:
            buckets = (1, 5, 25, 100, 500)
            return Histogram(f"maxserve_{name}", name, labels, registry=registry, buckets=buckets)

        self._running = gauge("num_requests_running", 0)
        gauge("num_requests_queued", 1)
        gauge("num_requests_awaiting_admission", 0)
        gauge("num_responses_buffered", 2)
        gauge("cache_num_used_blocks", _BLOCKS / 4)
        gauge("cache_num_total_blocks", _BLOCKS)
        # MAX exports a metric after its first value, and it has preempted nothing.
        self._requests = counter("request_count", "code", "path")
        self._tokens = [counter(f"num_{kind}_tokens") for kind in ("input", "output")]
        self._cache = [counter(f"cache_{kind}_tokens") for kind in ("hits", "misses")]
        self._times = [
            histogram(f"{name}_milliseconds")
            for name in ("time_to_first_token", "time_per_output_token")
        ]
        self._batches = [
            histogram(name, "batch_type")
            for name in ("batch_size", "batch_execution_time_milliseconds")
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection scope."""
        if scope.get("path") == "/metrics":
            self._running.set(self.running)
            headers = [(b"content-type", b"text/plain; version=0.0.4")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            body = generate_latest(self.registry)
            await send({"type": "http.response.body", "body": body})
            return
        if scope["type"] == "http" and scope["path"] != "/v1/models":
            self._requests.labels("200", scope["path"]).inc()
            for counter in (*self._tokens, *self._cache):
                counter.inc(7)
            for times in self._times:
                times.observe(20)
            for batches in self._batches:
                for kind in ("CE", "TG"):
                    batches.labels(kind).observe(4)
        await super().__call__(scope, receive, send)
