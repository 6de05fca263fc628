"""Declarations of all metrics.

A declaration determines where workers keep the metric (layout.py), its Prometheus exposition
(prometheus.py) and its entry in docs/metrics.md (reference.py). To add a counter, declare it
here and call `MetricsStore.add`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal[
    "breakers",
    "bytes",
    "calls",
    "celsius",
    "cores",
    "decisions",
    "currency",  # counters are stored in billionths
    "failures",
    "files",
    "lines",
    "processes",
    "ratio",
    "requests",
    "seconds",
    "spans",
    "slots",
    "tokens",
    "users",
    "watts",
    "boolean",
]
LabelValues = tuple[str, ...]
"""One value for each label of a metric, in the order of its declaration."""


@dataclass(frozen=True, eq=False)
class Label:
    """A label, compared by identity.

    `values` has the meaning of each value, or is None if the values are only known at run time.
    """

    name: str
    help: str
    values: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric, compared by identity.

    Labels with values known only at run time come first. `stored` metrics are counted by workers;
    the others are computed for each scrape. `sparse` metrics omit samples that are zero. Those
    `for_admins` are shown to admins only.
    """

    name: str
    kind: Kind
    unit: Unit
    help: str
    labels: tuple[Label, ...] = ()
    stored: bool = True
    sparse: bool = False
    for_admins: bool = False

    @property
    def open_labels(self) -> tuple[Label, ...]:
        """The labels whose values are only known at run time."""
        return tuple(label for label in self.labels if label.values is None)

    @property
    def closed_values(self) -> tuple[tuple[str, ...], ...]:
        """The values of each label whose values are declared."""
        return tuple(tuple(label.values) for label in self.labels if label.values is not None)


METRICS: Final[list[Metric]] = []
"""All metrics, in the order of their exposition."""


def _declare(metric: Metric) -> Metric:
    METRICS.append(metric)
    return metric


_OUTCOMES: Final = {
    "ok": "completed",
    "client_error": "invalid request",
    "client_gone": "the client disconnected before the end",
    "unavailable": "no engine, none with capacity, or the gateway is shutting down",
    "timeout": "the engine exceeded a timeout, or the request the time that its client allows",
    "upstream_error": "the engine failed before its first token",
    "truncated": (
        "the engine failed, or the gateway was shut down, after the first token; "
        "the client got an error event"
    ),
    "internal_error": "error in the gateway",
}
GENERATION_ROUTES: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Routes that generate text. The times of others are not comparable with theirs."""
ROUTE: Final = Label("route", "Path of the route, or `other` for unknown paths.")
MODEL: Final = Label("model", "Served model name; empty if the request did not reach a model.")
ENGINE: Final = Label("engine", "Base URL of the engine.")
PROJECT: Final = Label("project", "Id of the project; `anonymous` without authentication.")
OUTCOME: Final = Label("outcome", "Result of the request.", _OUTCOMES)
TOKEN_TYPE: Final = Label(
    "type",
    "Kind of token.",
    {
        "prompt": "input tokens, cached ones included",
        "completion": "generated tokens",
        "cached": "the part of `prompt` that came from the engine's prefix cache",
    },
)
SERVICE_CLASS: Final = Label(
    "class",
    "Service class, from the `service_tier` of the request.",
    {
        "priority": "before the others",
        "default": "requests without a tier",
        "flex": "after the others",
    },
)
REFUSAL: Final = Label(
    "reason",
    "Reason for which a request got no slot.",
    {
        "tenant_queue_full": "the caller has too many requests in the queue",
        "server_overloaded": "the queue is full",
        "queue_timeout": "the request has waited as long as requests may",
        "deadline": "the time that the client allows would end, or has ended, in the queue",
        "shutdown": "the gateway stops",
    },
)

AUTHENTICATION_RESULT: Final = Label(
    "result",
    "Result of an authentication.",
    {
        "accepted": "the credential is valid",
        "missing": "the request has no credential",
        "malformed": "not a credential, or one with a typing error",
        "ambiguous": "several headers hold different credentials",
        "unknown_key": "no key has this hash",
        "revoked": "the key is disabled",
        "expired": "the credential has expired",
        "wrong_network": "the key must not be used from this address",
        "invalid_token": "the token is invalid for another reason",
        "limited": "invalid, and its address had too many failures before",
        "unavailable": "the credential could not be verified",
    },
)
LIMIT_SCOPE: Final = Label(
    "scope",
    "Subject of the limit.",
    {
        "key": "requests with one API key",
        "user": "requests of one user or service account",
        "project": "requests of one project",
        "organization": "all requests",
    },
)
LIMIT_UNIT: Final = Label(
    "unit",
    "Unit of the limit.",
    {
        "requests": "requests in a window",
        "tokens": "input and output tokens",
        "input_tokens": "input tokens",
        "output_tokens": "output tokens",
        "concurrent_requests": "requests at a time",
        "money": "money, by the selling price",
        "gpu_milliseconds": "GPU time",
    },
)

RULE: Final = Label("rule", "Name of the guardrail in the settings.")
DIRECTION: Final = Label(
    "direction", "Text that was checked.", {"input": "the request", "output": "the response"}
)
DECISION: Final = Label(
    "decision",
    "Effect of a guardrail.",
    {
        "block": "the text was refused, or the response ended before it",
        "mask": "a passage was replaced by a placeholder",
        "log": "a passage or text was only counted",
        "failed_open": "the check failed, and the text was accepted",
        "failed_closed": "the check failed, and the request was refused",
    },
)
GPU: Final = Label("gpu", "Number of the GPU, as in `nvidia-smi`.")
GPU_NAME: Final = Label("name", "Product name of the GPU.")
THROTTLE_REASON: Final = Label("reason", "Reason for which a GPU has reduced its clocks.")
FILE: Final = Label("file", "Path of the file in the settings.")
WINDOW: Final = Label("window", "Time before the scrape.", {"5m": "five minutes", "1d": "24 hours"})

REQUESTS_IN_FLIGHT: Final = _declare(
    Metric("maxgate_requests_in_flight", "gauge", "requests", "Requests in progress.")
)
WORKERS: Final = _declare(
    Metric("maxgate_workers", "gauge", "processes", "Running worker processes.", stored=False)
)
PROCESS_CPU_SECONDS: Final = _declare(
    Metric(
        "maxgate_process_cpu_seconds_total",
        "counter",
        "seconds",
        "CPU time of the running workers, user and system.",
        stored=False,
    )
)
PROCESS_RESIDENT_MEMORY: Final = _declare(
    Metric(
        "maxgate_process_resident_memory_bytes",
        "gauge",
        "bytes",
        "Resident memory of the running workers.",
        stored=False,
    )
)
PROCESS_OPEN_FILES: Final = _declare(
    Metric(
        "maxgate_process_open_files",
        "gauge",
        "files",
        "Open file descriptors of the worker that is closest to its limit.",
        stored=False,
    )
)
PROCESS_MAX_FILES: Final = _declare(
    Metric(
        "maxgate_process_max_files",
        "gauge",
        "files",
        "Limit of file descriptors of the same worker.",
        stored=False,
    )
)
EVENT_LOOP_LAG: Final = _declare(
    Metric(
        "maxgate_event_loop_lag_seconds",
        "histogram",
        "seconds",
        "Delay of a timer in the event loop of each worker, measured twice a second.",
    )
)
ENGINE_UP: Final = _declare(
    Metric(
        "maxgate_engine_up",
        "gauge",
        "boolean",
        "1 if the engine is healthy, 0 otherwise.",
        (ENGINE,),
        stored=False,
    )
)
ENGINE_BREAKERS_OPEN: Final = _declare(
    Metric(
        "maxgate_engine_breakers_open",
        "gauge",
        "breakers",
        "Models for which the worker that answers the scrape sends fewer or no requests to the "
        "engine, because its circuit breaker is not closed.",
        (ENGINE,),
        stored=False,
    )
)
ENGINE_REQUESTS_IN_FLIGHT: Final = _declare(
    Metric(
        "maxgate_engine_requests_in_flight",
        "gauge",
        "requests",
        "Requests in progress at the engine, sent by the worker that answers the scrape.",
        (ENGINE,),
        stored=False,
    )
)
ENGINE_REQUESTS_OWN: Final = _declare(
    Metric(
        "maxgate_engine_requests_own",
        "gauge",
        "requests",
        "Requests in progress at the engine, sent by all workers, when its metrics were last read.",
        (ENGINE,),
    )
)
ENGINE_REQUESTS_ORPHANED: Final = _declare(
    Metric(
        "maxgate_engine_requests_orphaned",
        "gauge",
        "requests",
        "Requests at the engine, by its own metrics, beyond `maxgate_engine_requests_own`: no "
        "client of this gateway waits for them. Requests of other gateways count, too.",
        (ENGINE,),
        stored=False,
    )
)
ENGINE_CALLS: Final = _declare(
    Metric(
        "maxgate_engine_calls_total",
        "counter",
        "calls",
        "Calls to engines, retries included. All calls of a request count for its last engine.",
        (ENGINE,),
    )
)
REQUESTS: Final = _declare(
    Metric(
        "maxgate_requests_total",
        "counter",
        "requests",
        "Finished requests.",
        (ROUTE, MODEL, OUTCOME),
        sparse=True,
    )
)
RETRIES: Final = _declare(
    Metric(
        "maxgate_retries_total",
        "counter",
        "calls",
        "Retries of finished requests: fail-over, stale connections and failed validation.",
        (ROUTE, MODEL),
    )
)
CONTINUATIONS: Final = _declare(
    Metric(
        "maxgate_continuations_total",
        "counter",
        "calls",
        "Calls that continued a finished stream after its engine had failed.",
        (ROUTE, MODEL),
    )
)
TOKENS: Final = _declare(
    Metric(
        "maxgate_tokens_total",
        "counter",
        "tokens",
        "Tokens of finished requests.",
        (ROUTE, MODEL, TOKEN_TYPE),
    )
)
REQUEST_DURATION: Final = _declare(
    Metric(
        "maxgate_request_duration_seconds",
        "histogram",
        "seconds",
        "Time from arrival to the last response byte, for requests with outcome `ok`.",
        (ROUTE, MODEL),
    )
)
TIME_TO_FIRST_TOKEN: Final = _declare(
    Metric(
        "maxgate_time_to_first_token_seconds",
        "histogram",
        "seconds",
        "Time from arrival to the first token, for streams with outcome `ok`.",
        (ROUTE, MODEL),
    )
)
TIME_PER_OUTPUT_TOKEN: Final = _declare(
    Metric(
        "maxgate_time_per_output_token_seconds",
        "histogram",
        "seconds",
        "Mean time per token after the first, for streams with outcome `ok`.",
        (ROUTE, MODEL),
    )
)
CANCEL_DURATION: Final = _declare(
    Metric(
        "maxgate_cancel_duration_seconds",
        "histogram",
        "seconds",
        "Time from the client's disconnect, or the deadline of its request, until the connection "
        "of the engine call is closed, which cancels it.",
    )
)
QUEUE_DURATION: Final = _declare(
    Metric(
        "maxgate_queue_duration_seconds",
        "histogram",
        "seconds",
        "Time that requests waited for their model and a slot, those without a wait "
        "included. Refused requests are left out.",
        (MODEL,),
    )
)
QUEUE_LENGTH: Final = _declare(
    Metric(
        "maxgate_queue_length",
        "gauge",
        "requests",
        "Requests that wait for a slot, or for their model to start.",
        (MODEL, SERVICE_CLASS),
    )
)
REQUESTS_REFUSED: Final = _declare(
    Metric(
        "maxgate_requests_refused_total",
        "counter",
        "requests",
        "Requests that got no slot.",
        (MODEL, REFUSAL),
    )
)
SLOTS: Final = _declare(
    Metric(
        "maxgate_slots",
        "gauge",
        "slots",
        "Requests that may run at once; 0 while no limit is known. Of gateways that share slots, "
        "each reports those of its workers, and one of them also those that no worker leases.",
        (MODEL,),
    )
)
SLOTS_IN_USE: Final = _declare(
    Metric("maxgate_slots_in_use", "gauge", "slots", "Slots that requests hold.", (MODEL,))
)
ENGINE_WATCH_FAILURES: Final = _declare(
    Metric(
        "maxgate_engine_watch_failures_total",
        "counter",
        "failures",
        "Unexpected errors in the gateway while it probed the engine; the probes continue.",
        (ENGINE,),
    )
)
GUARDRAIL_DECISIONS: Final = _declare(
    Metric(
        "maxgate_guardrail_decisions_total",
        "counter",
        "decisions",
        "Decisions of guardrails, one for each passage found or text refused.",
        (RULE, DIRECTION, DECISION),
        sparse=True,
    )
)
AUTHENTICATIONS: Final = _declare(
    Metric(
        "maxgate_authentications_total",
        "counter",
        "requests",
        "Requests whose credential was verified, if authentication is on.",
        (AUTHENTICATION_RESULT,),
        sparse=True,
    )
)
BILLED_REQUESTS: Final = _declare(
    Metric(
        "maxgate_billed_requests_total",
        "counter",
        "requests",
        "Finished requests that reached an engine, if there are rate cards.",
        (PROJECT, MODEL),
        for_admins=True,
    )
)
REVENUE: Final = _declare(
    Metric(
        "maxgate_revenue_total",
        "counter",
        "currency",
        "Price of these requests, by the rate cards of that time, in `pricing.currency`.",
        (PROJECT, MODEL),
        for_admins=True,
    )
)
COSTS: Final = _declare(
    Metric(
        "maxgate_costs_total",
        "counter",
        "currency",
        "Cost of these requests, in the same way.",
        (PROJECT, MODEL),
        for_admins=True,
    )
)
ACTIVE_USERS: Final = _declare(
    Metric(
        "maxgate_active_users",
        "gauge",
        "users",
        "Users with requests that ended in the last minutes or hours, of all gateways, if usage "
        "is recorded and the database is available.",
        (WINDOW,),
        stored=False,
        for_admins=True,
    )
)
REQUESTS_PER_USER: Final = _declare(
    Metric(
        "maxgate_requests_per_active_user",
        "gauge",
        "requests",
        "Mean number of their requests.",
        (WINDOW,),
        stored=False,
        for_admins=True,
    )
)
COST_PER_REQUEST: Final = _declare(
    Metric(
        "maxgate_cost_per_request",
        "gauge",
        "currency",
        "Mean cost of these requests by the present rate cards, GPU time included.",
        (WINDOW,),
        stored=False,
        for_admins=True,
    )
)
REVENUE_PER_REQUEST: Final = _declare(
    Metric(
        "maxgate_revenue_per_request",
        "gauge",
        "currency",
        "Mean price of these requests in the same way.",
        (WINDOW,),
        stored=False,
        for_admins=True,
    )
)
LIMIT_REFUSALS: Final = _declare(
    Metric(
        "maxgate_limit_refusals_total",
        "counter",
        "requests",
        "Requests refused by a limit or budget.",
        (LIMIT_SCOPE, LIMIT_UNIT),
        sparse=True,
    )
)
LIMITS_DEGRADED: Final = _declare(
    Metric(
        "maxgate_limits_degraded",
        "gauge",
        "processes",
        "Workers that count limits by themselves, because they cannot reach the shared counters.",
        sparse=True,
    )
)
OUT_OF_RESOURCES: Final = _declare(
    Metric(
        "maxgate_out_of_resources_total",
        "counter",
        "requests",
        "Requests refused because the gateway had no file descriptors, ports or memory left.",
    )
)
LOG_LINES_DROPPED: Final = _declare(
    Metric(
        "maxgate_log_lines_dropped_total",
        "counter",
        "lines",
        "Log lines that could not be written: a stalled or closed reader, or a full disk.",
    )
)
LOG_LINES_OMITTED: Final = _declare(
    Metric(
        "maxgate_log_lines_omitted_total",
        "counter",
        "lines",
        "Log lines of successful requests beyond `telemetry.success_lines_per_second`.",
        sparse=True,
    )
)
SPANS_LOST: Final = _declare(
    Metric(
        "maxgate_trace_spans_lost_total",
        "counter",
        "spans",
        "Spans of traces that the collector did not take.",
        sparse=True,
    )
)
USAGE_LINES: Final = _declare(
    Metric(
        "maxgate_usage_lines_total",
        "counter",
        "lines",
        "Lines of the ledger that were written to the spool, one per request.",
    )
)
USAGE_LINES_LOST: Final = _declare(
    Metric(
        "maxgate_usage_lines_lost_total",
        "counter",
        "lines",
        "Lines of the ledger that are lost: no room on disk and in memory, or faulty.",
    )
)
USAGE_LINES_MOVED: Final = _declare(
    Metric(
        "maxgate_usage_lines_moved_total",
        "counter",
        "lines",
        "Lines of the ledger that were moved from the spools to the database.",
    )
)
USAGE_SPOOL_SIZE: Final = _declare(
    Metric(
        "maxgate_usage_spool_bytes",
        "gauge",
        "bytes",
        "Size of the spools of this host. Lines that were moved count until their segment of at "
        "most 4 MiB is full.",
    )
)
CERTIFICATE_EXPIRY: Final = _declare(
    Metric(
        "maxgate_certificate_expiry_timestamp_seconds",
        "gauge",
        "seconds",
        "Unix time at which the certificate expires, of the files in `telemetry.certificates`.",
        (FILE,),
        stored=False,
    )
)
HOST_CORES: Final = _declare(
    Metric(
        "maxgate_host_cpu_cores",
        "gauge",
        "cores",
        "CPU cores of the host, if `telemetry.host` is on; likewise below.",
        stored=False,
    )
)
HOST_CPU_BUSY: Final = _declare(
    Metric(
        "maxgate_host_cpu_busy_seconds_total",
        "counter",
        "seconds",
        "CPU time of all processes on the host, all cores together.",
        stored=False,
    )
)
HOST_MEMORY_USED: Final = _declare(
    Metric(
        "maxgate_host_memory_used_bytes",
        "gauge",
        "bytes",
        "Memory of the host in use, without caches that can be reclaimed.",
        stored=False,
    )
)
HOST_MEMORY: Final = _declare(
    Metric(
        "maxgate_host_memory_size_bytes",
        "gauge",
        "bytes",
        "Memory of the host.",
        stored=False,
    )
)
HOST_DISK_USED: Final = _declare(
    Metric(
        "maxgate_host_disk_used_bytes",
        "gauge",
        "bytes",
        "Used space of the file system with `state_dir`.",
        stored=False,
    )
)
HOST_DISK: Final = _declare(
    Metric(
        "maxgate_host_disk_size_bytes",
        "gauge",
        "bytes",
        "Size of this file system, without what is reserved for root.",
        stored=False,
    )
)
GPU_UTILIZATION: Final = _declare(
    Metric(
        "maxgate_gpu_utilization_ratio",
        "gauge",
        "ratio",
        "Share of time in which the GPU computed, if `telemetry.gpu` is on; likewise below.",
        (GPU, GPU_NAME),
        stored=False,
    )
)
GPU_MEMORY_USED: Final = _declare(
    Metric(
        "maxgate_gpu_memory_used_bytes",
        "gauge",
        "bytes",
        "Memory of the GPU in use.",
        (GPU, GPU_NAME),
        stored=False,
    )
)
GPU_MEMORY: Final = _declare(
    Metric(
        "maxgate_gpu_memory_size_bytes",
        "gauge",
        "bytes",
        "Memory of the GPU.",
        (GPU, GPU_NAME),
        stored=False,
    )
)
GPU_POWER: Final = _declare(
    Metric(
        "maxgate_gpu_power_watts",
        "gauge",
        "watts",
        "Power that the GPU draws, if it reports that.",
        (GPU, GPU_NAME),
        stored=False,
    )
)
GPU_TEMPERATURE: Final = _declare(
    Metric(
        "maxgate_gpu_temperature_celsius",
        "gauge",
        "celsius",
        "Temperature of the GPU, if it reports that.",
        (GPU, GPU_NAME),
        stored=False,
    )
)
GPU_THROTTLED: Final = _declare(
    Metric(
        "maxgate_gpu_throttled",
        "gauge",
        "boolean",
        "1 for each reason for which the GPU has reduced its clocks; 0 with an empty reason if "
        "there is none.",
        (GPU, GPU_NAME, THROTTLE_REASON),
        stored=False,
    )
)
