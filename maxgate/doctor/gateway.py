"""Check a running gateway over HTTP, as its clients see it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from maxgate import __version__
from maxgate.doctor.certificates import check_server
from maxgate.doctor.exposure import is_local
from maxgate.doctor.findings import Finding, Subject, compare_clocks, error, ok, warning
from maxgate.net.server_url import hide_credentials
from maxgate.server.instances import find_instances, local_url
from maxgate.server.protocol import listening_socket
from maxgate.settings import Settings

_TIMEOUT: Final = httpx.Timeout(10, connect=5)
_LOST: Final = frozenset({"unreachable", "unknown"})


def find_gateway(settings: Settings) -> str | None:
    """Return the URL of the gateway that runs on this machine with these settings, if any."""
    ports = [instance.port for instance in find_instances(settings.state_dir)]
    if not ports:
        return None
    port = settings.server.port if settings.server.port in ports else ports[0]
    return local_url(settings.server.host, port)


async def check_port(subject: Subject) -> list[Finding]:
    """Check that the gateway can listen at its address, unless it runs already."""
    server = subject.settings.server
    instances = find_instances(subject.state_dir)
    if subject.url is not None or instances:
        return _check_instances(subject, [instance.port for instance in instances])
    try:
        listening_socket(server.host, server.port).close()
    except (OSError, OverflowError) as reason:
        return [
            error(
                "port_unusable",
                f"the gateway cannot listen on {server.host}:{server.port}: "
                f"{getattr(reason, 'strerror', None) or reason}",
                "stop the other program, or choose another server.host and server.port",
            )
        ]
    return [ok(f"{server.host}:{server.port} is free")]


def _check_instances(subject: Subject, ports: list[int]) -> list[Finding]:
    settings = subject.settings
    if len(ports) > 1 and settings.redis.url is None and settings.admission.enabled:
        return [
            warning(
                "no_redis",
                f"{len(ports)} gateways run on this machine (ports "
                f"{', '.join(map(str, ports))}), and redis.url is not set, so each counts slots "
                "and limits alone",
                "run one gateway with server.workers, or set redis.url",
            )
        ]
    return [ok("the gateway runs")]


async def check_gateway(subject: Subject) -> list[Finding]:
    """Check the running gateway: TLS, health, version, clock, and access without a key."""
    url = subject.url
    if url is None:
        return [ok("no gateway runs; these are checks of what it would start with")]
    shown = hide_credentials(url)
    parts = urlsplit(url)
    if parts.scheme == "https":
        faults = await check_server(url, subject.host.now())
        if any(fault.level == "error" for fault in faults):
            return faults
    else:
        faults = list(_check_plain(subject, shown))
    headers = {"authorization": f"Bearer {subject.key}"} if subject.key else {}
    sent_at = subject.host.now()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
            anonymous = await client.get("/v1/models")
            health = await client.get("/health", headers=headers)
    except (httpx.HTTPError, OSError) as reason:
        return [
            *faults,
            error(
                "gateway_unreachable",
                f"no gateway responds at {shown}: {str(reason) or type(reason).__name__}",
                "start it with `maxgate serve`, or correct --url",
            ),
        ]
    faults += _check_access(shown, anonymous)
    faults += _check_clock(shown, health, sent_at, subject.host.now())
    faults += _check_health(shown, health, has_key=bool(subject.key))
    return faults or [ok(f"{shown} is healthy")]


def _check_plain(subject: Subject, url: str) -> Iterator[Finding]:
    if not is_local(urlsplit(url).hostname or "") and subject.settings.auth.mode != "none":
        yield warning(
            "plain_http",
            f"{url} has no TLS, so API keys and prompts cross the network unencrypted",
            "put a proxy with TLS in front (docs/nginx.md)",
        )


def _check_access(url: str, response: httpx.Response) -> Iterator[Finding]:
    if response.status_code == 200 and not is_local(urlsplit(url).hostname or ""):
        yield error(
            "gateway_without_keys",
            f"{url} serves requests without a key",
            "set auth.mode: keys (MAXGATE_AUTH__MODE=keys), and restart the gateway",
        )


def _check_clock(url: str, response: httpx.Response, sent_at: float, now: float) -> list[Finding]:
    with suppress(KeyError, ValueError):
        theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        return compare_clocks(f"the gateway {url}", theirs, sent_at, now)
    return []


def _check_health(url: str, response: httpx.Response, *, has_key: bool) -> Iterator[Finding]:
    if response.status_code in {401, 403}:
        if has_key:
            yield warning(
                "key_refused",
                f"{url} refuses the key of OPENAI_ADMIN_KEY, so its health is unknown",
                "run: maxgate keys create --admin, and put the key into OPENAI_ADMIN_KEY",
            )
        return
    try:
        health: Mapping[str, Any] = response.json()
        engines = [(one["url"], one["state"], one["error"]) for one in health["engines"]]
        version, prompts = health["version"], health["prompts"]
    except (ValueError, LookupError, TypeError):
        yield error(
            "not_maxgate", f"{url} is not a gateway of maxgate", "correct --url, or the proxy"
        )
        return
    yield from _check_engine_states(url, engines)
    if version != __version__:
        yield warning(
            "version_differs",
            f"{url} is maxgate {version}, and this command is {__version__}",
            "restart the gateway: maxgate restart, or use its own installation for this command",
        )
    for model in sorted(name for name, source in prompts.items() if source == "unavailable"):
        yield error(
            "model_unavailable",
            f"{url} does not serve {model}, because its tokenizer is missing",
            f"run: maxgate models prepare {model}",
        )


def _check_engine_states(url: str, engines: list[tuple[str, str, str | None]]) -> Iterator[Finding]:
    lost = [(place, reason or state) for place, state, reason in engines if state in _LOST]
    build = error if len(lost) == len(engines) else warning
    for place, reason in lost:
        yield build(
            "gateway_lost_engine",
            f"{url} cannot use the engine {place}: {reason}",
            "start the engine, or remove it: maxgate engines remove",
        )
