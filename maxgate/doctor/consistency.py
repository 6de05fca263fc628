"""Check settings that contradict each other, or that do not fit this machine."""

from collections.abc import Iterator
from typing import Final

from maxgate.composition.tracing_export import check_variables
from maxgate.doctor.findings import Finding, Subject, count, error, ok, warning
from maxgate.errors import ConfigurationError
from maxgate.installation import Installation
from maxgate.settings import Settings

PROXY_TIMEOUT: Final = 60
"""Seconds of silence after which nginx closes a connection, by default."""
_MIN_SHUTDOWN: Final = 10
_MIN_FILES: Final = 1024
_SPARE_FILES: Final = 128
# Package, extra and purpose of settings that need more than the base installation.
_REDIS: Final = ("redis", "redis", "redis.url")
_POSTGRES: Final = ("psycopg", "postgres", "database.url")
_JWT: Final = ("joserfc", "jwt", "auth.mode jwt")
_GUARDRAILS: Final = ("re2", "guardrails", "guardrails")
_TRACING: Final = ("opentelemetry.sdk", "otel", "tracing.enabled")
_HOST: Final = ("psutil", "host", "telemetry.host")
_GPU: Final = ("pynvml", "host", "telemetry.gpu")
_CERTIFICATES: Final = ("cryptography", "tls", "telemetry.certificates")
_DOCKER: Final = ("docker", "docker", "engine.mode docker")
_LOCAL: Final = ("max", "local", "engine.mode local")


async def check_packages(subject: Subject) -> list[Finding]:
    """Check that the packages for the chosen settings are installed."""
    needed = list(_list_packages(subject.settings))
    return [
        error(
            "package_missing",
            f"{purpose} needs the package {package}, which is not installed",
            f"run: {Installation.detect().format_install(extra)}",
        )
        for package, extra, purpose in needed
        if not subject.host.has_package(package)
    ] or [ok(f"{count(len(needed), 'optional package')} needed, all installed")]


def _list_packages(settings: Settings) -> Iterator[tuple[str, str, str]]:
    engine, telemetry = settings.engine, settings.telemetry
    is_needed = (
        (_REDIS, settings.redis.url is not None),
        (_POSTGRES, settings.database.is_postgres),
        (_JWT, settings.auth.has_jwt),
        (_GUARDRAILS, bool(settings.guardrails)),
        (_TRACING, settings.tracing.enabled),
        (_HOST, telemetry.host),
        (_GPU, telemetry.gpu),
        (_CERTIFICATES, bool(telemetry.certificates)),
        (_DOCKER, engine.mode == "docker"),
        (_LOCAL, engine.mode == "local" and engine.python is None),
    )
    return (package for package, needed in is_needed if needed)


async def check_tracing(subject: Subject) -> list[Finding]:
    """Check the variables that choose the export of traces."""
    if not subject.settings.tracing.enabled or not subject.host.has_package(_TRACING[0]):
        return [ok("tracing.enabled is false")]
    try:
        check_variables()
    except ConfigurationError as reason:
        text, _, remedy = str(reason).partition("; ")
        return [error("tracing_variable", text, remedy or "correct the variable, or unset it")]
    return [ok("the OTEL_ variables are valid")]


async def check_timeouts(subject: Subject) -> list[Finding]:
    """Check timeouts that contradict each other, or those of a proxy."""
    settings = subject.settings
    found = list(_check_times(settings))
    if settings.server.trusted_proxies:
        found += _check_proxy_times(settings)
    return found or [ok(f"running requests have {settings.server.shutdown_timeout} s at a stop")]


def _check_times(settings: Settings) -> Iterator[Finding]:
    server, upstream = settings.server, settings.upstream
    if server.shutdown_timeout < _MIN_SHUTDOWN:
        yield warning(
            "short_shutdown",
            f"server.shutdown_timeout {server.shutdown_timeout} s cuts longer streams at each stop",
            "set server.shutdown_timeout to the length of the longest stream, such as 120",
        )
    if upstream.first_token_timeout > upstream.response_timeout:
        yield warning(
            "first_token_after_response",
            f"upstream.first_token_timeout {upstream.first_token_timeout:g} s is longer than "
            f"upstream.response_timeout {upstream.response_timeout:g} s, in which a whole response "
            "has to arrive",
            "set upstream.response_timeout above upstream.first_token_timeout",
        )
    if settings.admission.max_wait >= upstream.response_timeout:
        yield warning(
            "queue_outlasts_clients",
            f"admission.max_wait {settings.admission.max_wait:g} s is not below "
            f"upstream.response_timeout {upstream.response_timeout:g} s, so clients give up while "
            "they wait",
            "set admission.max_wait: 60",
        )
    if settings.breaker.open_seconds > settings.breaker.max_open_seconds:
        yield warning(
            "breaker_times",
            f"breaker.open_seconds {settings.breaker.open_seconds:g} is above "
            f"breaker.max_open_seconds {settings.breaker.max_open_seconds:g}",
            "set breaker.max_open_seconds above breaker.open_seconds",
        )


def _check_proxy_times(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if server.keep_alive_interval >= PROXY_TIMEOUT:
        yield warning(
            "keep_alive_too_rare",
            f"server.keep_alive_interval {server.keep_alive_interval:g} s: a proxy closes a stream "
            f"after {PROXY_TIMEOUT} s of silence by default",
            "set server.keep_alive_interval: 15",
        )
    if server.keep_alive_timeout <= PROXY_TIMEOUT:
        yield warning(
            "connections_close_early",
            f"server.keep_alive_timeout {server.keep_alive_timeout} s: a proxy uses idle "
            f"connections for {PROXY_TIMEOUT} s by default, so some requests get 502",
            "set server.keep_alive_timeout: 75",
        )


async def check_sizes(subject: Subject) -> list[Finding]:
    """Check sizes that contradict each other, or that exceed this machine's."""
    settings, host = subject.settings, subject.host
    cores, files = host.count_cores(), host.read_file_limit()
    found = list(_check_machine(settings, cores, files))
    admission = settings.admission
    if admission.max_queue_bytes < settings.server.max_body_bytes:
        found.append(
            warning(
                "queue_smaller_than_body",
                f"admission.max_queue_bytes {admission.max_queue_bytes} is below "
                f"server.max_body_bytes {settings.server.max_body_bytes}, so the longest prompts "
                "are refused when all slots are in use",
                "set admission.max_queue_bytes above server.max_body_bytes",
            )
        )
    if (admission.slots or 0) > settings.upstream.max_connections:
        found.append(
            warning(
                "slots_exceed_connections",
                f"admission.slots {admission.slots} is above upstream.max_connections "
                f"{settings.upstream.max_connections}, so some slots are never used",
                "set upstream.max_connections above admission.slots",
            )
        )
    return found or [
        ok(
            f"{count(settings.server.workers, 'worker')}, {count(cores, 'core')}, "
            f"{files} open files"
        )
    ]


def _check_machine(settings: Settings, cores: int, files: int) -> Iterator[Finding]:
    workers, admission = settings.server.workers, settings.admission
    if workers > cores:
        yield warning(
            "workers_exceed_cores",
            f"server.workers {workers} on {cores} CPU cores: workers slow each other down",
            f"set server.workers: {cores}",
        )
    at_engines = 2 * (admission.slots or 0) * len(settings.engines)
    needed = max(_MIN_FILES, at_engines + (admission.max_queue or 0) + _SPARE_FILES)
    if files < needed:
        yield warning(
            "few_open_files",
            f"the limit of open files is {files}, and the gateway needs {needed}: one per waiting "
            "request and two per running one",
            "raise it: `ulimit -n`, LimitNOFILE= of systemd, --ulimit of docker",
        )


async def check_accounting(subject: Subject) -> list[Finding]:
    """Check that what prices and budgets need is recorded, and shared by several gateways."""
    settings = subject.settings
    cards = settings.pricing.rate_cards
    budgets = [budget for scope in settings.limits.list_scopes() for budget in scope.budgets]
    has_money = any(budget.unit == "money" for budget in budgets)
    found = []
    if not settings.usage.enabled and (cards or budgets):
        what = "pricing.rate_cards is set" if cards else "limits have budgets"
        found.append(
            warning(
                "ledger_off",
                f"{what} and usage.enabled is false, so no usage is recorded to charge or explain",
                "set usage.enabled: true",
            )
        )
    if has_money and not cards:
        found.append(
            error(
                "budget_without_prices",
                "limits have a budget of money, and pricing.rate_cards is empty, so it is never "
                "reached",
                "set pricing.rate_cards (docs/pricing.md)",
            )
        )
    recorded = "recorded" if settings.usage.enabled else "not recorded"
    return found or [ok(f"usage is {recorded}, {len(cards)} rate cards, {len(budgets)} budgets")]
