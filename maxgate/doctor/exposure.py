"""Check who can reach the gateway, its admin API and its engines, and with which credentials."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from maxgate.api.browsers import is_loopback
from maxgate.doctor.findings import Finding, Subject, count, error, ok, warning
from maxgate.settings import Settings
from maxgate.upstream.engine_metrics import default_metrics_url
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings

_ANY: Final = "*"


def is_local(host: str) -> bool:
    """Whether only this machine can reach a host name or address."""
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)


async def check_exposure(subject: Subject) -> list[Finding]:
    """Check listeners, authentication, proxies and web pages."""
    settings = subject.settings
    found = [
        *_check_authentication(settings),
        *_check_proxies(settings, subject.url),
        *_check_web_pages(settings),
    ]
    place = f"{settings.server.host}:{settings.server.port}"
    mode = settings.auth.mode or "not set, which serves this machine only"
    return found or [ok(f"listens on {place}, auth.mode {mode}")]


def _check_authentication(settings: Settings) -> Iterator[Finding]:
    host, auth = settings.server.host, settings.auth
    if not is_local(host):
        if auth.mode is None:
            yield error(
                "no_authentication",
                f"server.host {host} is reachable from other machines and auth.mode is not set, "
                "so the gateway refuses to start",
                "set auth.mode: keys, then run: maxgate keys create --admin",
            )
        elif auth.mode == "none":
            yield warning(
                "open_gateway",
                f"auth.mode none on server.host {host} serves everyone who can connect",
                "set auth.mode: keys, or server.host: 127.0.0.1",
            )
        if auth.open_metrics:
            yield warning(
                "open_metrics",
                f"auth.open_metrics on server.host {host} shows /metrics and /health to everyone",
                "remove auth.open_metrics, and give Prometheus the key of auth.metrics_key",
            )
    if settings.admin.port is not None and not is_local(settings.admin.host):
        yield warning(
            "admin_exposed",
            f"admin.host {settings.admin.host} makes the admin API reachable from other machines",
            "set admin.host: 127.0.0.1",
        )


def _check_proxies(settings: Settings, url: str | None) -> Iterator[Finding]:
    proxies, host = settings.server.trusted_proxies, settings.server.host
    for network in proxies:
        if ip_network(network).prefixlen == 0:
            yield error(
                "any_proxy_trusted",
                f"server.trusted_proxies {network} is every address, so any client can forge its "
                "own address and scheme",
                "set server.trusted_proxies to the addresses of the proxies, such as 10.0.0.5",
            )
    if proxies:
        return
    if url is not None and urlsplit(url).scheme == "https":
        yield warning(
            "no_trusted_proxy",
            f"{url} is served by a proxy, because the gateway has no TLS itself, and "
            "server.trusted_proxies is empty, so all clients count as one address",
            "set server.trusted_proxies to the address of the proxy",
        )
    elif not is_local(host) and (settings.auth.has_keys or settings.auth.has_jwt):
        yield warning(
            "no_trusted_proxy",
            f"server.host {host} is public and server.trusted_proxies is empty: credentials arrive "
            "unencrypted, or all clients count as one address, that of the proxy",
            "put a proxy with TLS in front (docs/nginx.md), and set server.trusted_proxies to its "
            "address",
        )


def _check_web_pages(settings: Settings) -> Iterator[Finding]:
    has_auth = settings.auth.has_keys or settings.auth.has_jwt
    if _ANY in settings.server.allowed_hosts and not has_auth:
        yield warning(
            "any_host_allowed",
            "server.allowed_hosts * without authentication lets any web page use the gateway by "
            "DNS rebinding",
            "list the gateway's own names in server.allowed_hosts, or set auth.mode: keys",
        )
    if _ANY in settings.server.cors_origins:
        build, risk = (
            (warning, "with a key that its user enters") if has_auth else (error, "without a key")
        )
        yield build(
            "any_origin_allowed",
            f"server.cors_origins * lets every web page use the gateway {risk}",
            "list the origins in server.cors_origins, such as https://chat.example.org",
        )


async def check_engine_ports(subject: Subject) -> list[Finding]:
    """Check that engines on this machine listen on loopback addresses only."""
    listeners = subject.host.list_listeners()
    found = []
    ports = 0
    for engine in subject.settings.engines:
        for name, port in _list_ports(engine, subject.settings.engine.metrics_port):
            addresses = listeners.get(port, set())
            ports += bool(addresses)
            public = sorted(one for one in addresses if not is_local(one))
            if public:
                found.append(
                    warning(
                        "engine_exposed",
                        f"{name} of {engine.public_url} listens on {public[0]}, so other machines "
                        "reach it without the gateway's keys and limits",
                        f"start the engine with --host 127.0.0.1, or block port {port} in the "
                        "firewall",
                    )
                )
    return found or [ok(f"{count(ports, 'engine port')} on this machine, none public")]


def _list_ports(engine: ReplicaSettings, metrics_port: int) -> Iterator[tuple[str, int]]:
    """Yield the ports of an engine on this machine."""
    url = urlsplit(engine.url.removeprefix(DNS_PREFIX))
    if not is_local(url.hostname or ""):
        return
    yield "the API", url.port or (443 if url.scheme == "https" else 80)
    metrics_url = engine.metrics_url or default_metrics_url(url.geturl(), metrics_port)
    yield "the metrics port", urlsplit(metrics_url).port or 80
