"""Check the database and Redis: reachability, versions, persistence, clocks."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from maxgate.auth.pepper_check import WrongPepper, check_peppers
from maxgate.doctor.exposure import is_local
from maxgate.doctor.findings import Finding, Subject, compare_clocks, error, ok, warning
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings
from maxgate.stores.identity import StoreUnavailable

_MIN_REDIS: Final = 6
_SHARED_GATEWAYS: Final = (
    "SELECT count(DISTINCT client_addr) FROM pg_stat_activity WHERE application_name = 'maxgate'"
)


async def check_database(subject: Subject) -> list[Finding]:
    """Check the database, if anything uses it."""
    settings = subject.settings
    if not settings.database.is_enabled or not (settings.auth.has_keys or settings.usage.enabled):
        return [ok("no database is used")]
    if settings.database.is_postgres and not subject.host.has_package("psycopg"):
        return [ok("not checked, because a package is missing")]
    return await asyncio.to_thread(_check_database, subject)


def _check_database(subject: Subject) -> list[Finding]:
    from maxgate.stores.migrate import check_database as read_schema  # noqa: PLC0415  # slow

    settings = subject.settings
    try:
        state = read_schema(settings.database, settings.state_dir)
        if not state.is_usable:
            if state.status == "missing" and not settings.database.is_postgres:
                return [ok("maxgate serve creates the SQLite database")]
            message, _, remedy = state.message.partition("; ")
            return [error("database_schema", message, remedy or "run: maxgate db upgrade")]
        findings = list(_check_usable(subject))
    except StoreUnavailable as reason:
        return [
            error(
                "database_unreachable",
                str(reason),
                "start the database, or correct database.url (MAXGATE_DATABASE__URL)",
            )
        ]
    return findings or [ok(state.message)]


def _check_usable(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if settings.auth.has_keys:
        try:
            check_peppers(settings.auth, settings.database, settings.state_dir)
        except WrongPepper as reason:
            message, _, remedy = str(reason).partition("; ")
            yield error("wrong_pepper", message, remedy)
        except ConfigurationError:
            pass  # check_keys reports it
        if not _has_keys(settings) and not _has_key_file(settings):
            yield warning(
                "no_keys",
                "the database has no keys, so every request is refused",
                "run: maxgate keys create --admin",
            )
    if settings.database.is_postgres:
        yield from _check_postgres(subject)
    elif settings.redis.url is not None and settings.auth.has_keys:
        yield warning(
            "keys_not_shared",
            "redis.url is for several gateways, and the keys are in SQLite, so each gateway has "
            "its own",
            "set database.url to a PostgreSQL that all gateways use",
        )


def _has_keys(settings: Settings) -> bool:
    from maxgate.stores.peppers import read_fingerprints  # noqa: PLC0415  # slow to import

    return read_fingerprints(settings.database, settings.state_dir)[1]


def _has_key_file(settings: Settings) -> bool:
    return settings.auth.find_key_file(settings.state_dir).exists()


def _check_postgres(subject: Subject) -> Iterator[Finding]:
    from sqlalchemy import text  # noqa: PLC0415  # slow to import

    from maxgate.stores.migrate import connect  # noqa: PLC0415

    settings, sent_at = subject.settings, subject.host.now()
    with connect(settings.database, settings.state_dir) as connection:
        theirs = float(connection.execute(text("SELECT extract(epoch FROM now())")).scalar_one())
        now = subject.host.now()
        allowed = int(connection.execute(text("SHOW max_connections")).scalar_one())
        gateways = int(connection.execute(text(_SHARED_GATEWAYS)).scalar_one())
    yield from compare_clocks("the database", theirs, sent_at, now)
    needed = settings.server.workers * settings.database.pool_size
    if needed > allowed:
        yield error(
            "too_many_connections",
            f"server.workers {settings.server.workers} times database.pool_size "
            f"{settings.database.pool_size} is above max_connections {allowed} of the database",
            f"set database.pool_size: {max(allowed // settings.server.workers // 2, 1)}, or raise "
            "max_connections",
        )
    if gateways > 1 and settings.redis.url is None and settings.admission.enabled:
        yield warning(
            "no_redis",
            f"gateways on {gateways} hosts use the database, and redis.url is not set, so slots "
            "and limits are counted by each gateway alone",
            "set redis.url (MAXGATE_REDIS__URL) to a Redis that all gateways use",
        )


async def check_redis(subject: Subject) -> list[Finding]:
    """Check Redis, if it is set."""
    settings = subject.settings
    if settings.redis.url is None:
        return [ok("no Redis is used")]
    if not subject.host.has_package("redis"):
        return [ok("not checked, because a package is missing")]
    from redis.asyncio import Redis  # noqa: PLC0415  # an extra
    from redis.exceptions import RedisError  # noqa: PLC0415

    options: dict[str, Any] = {}
    if settings.redis.ca_file is not None:
        options["ssl_ca_certs"] = str(settings.redis.ca_file)
    timeout = max(settings.redis.timeout, 2.0)
    client: Redis = Redis.from_url(
        settings.redis.url, socket_timeout=timeout, socket_connect_timeout=timeout, **options
    )
    place = settings.redis.address
    try:
        sent_at = subject.host.now()
        seconds, _ = await client.time()
        findings = [
            *_check_password(settings),
            *compare_clocks("Redis", seconds, sent_at, subject.host.now()),
        ]
        info: dict[str, Any] = {}
        with suppress(RedisError):  # the user of the gateway may lack the right
            info = await client.info()
            saving: Any = await client.config_get("save")
            info.update(saving)
    except (RedisError, OSError) as reason:
        text = str(reason) or type(reason).__name__
        return [
            error(
                "redis_unreachable",
                f"Redis at {place}: {text}",
                "start Redis, or correct redis.url (MAXGATE_REDIS__URL)",
            )
        ]
    finally:
        await client.aclose()
    findings += _check_info(info, has_budgets=settings.limits.is_enabled)
    version = info.get("redis_version", "of unknown version")
    return findings or [ok(f"Redis {version} at {place}")]


def _check_password(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(settings.redis.url or "")
    if parts.scheme != "unix" and not parts.password and not is_local(parts.hostname or ""):
        yield warning(
            "redis_without_password",
            f"Redis at {settings.redis.address} has no password, so every program in that "
            "network can change limits",
            "create a user in Redis (docs/redis.md), and write it in redis.url",
        )


def _check_info(info: Mapping[str, Any], *, has_budgets: bool) -> Iterator[Finding]:
    version = str(info.get("redis_version", ""))
    if version and int(version.partition(".")[0]) < _MIN_REDIS:
        yield error("redis_version", f"Redis is {version}", f"upgrade it to {_MIN_REDIS} or later")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield error(
            "redis_evicts",
            f"Redis evicts keys when its memory is full (maxmemory-policy {policy}), and forgets "
            "limits and slots",
            "run: redis-cli config set maxmemory-policy noeviction",
        )
    is_kept = bool(info.get("aof_enabled", 1) or info.get("save", "unknown"))
    if has_budgets and not is_kept:
        yield warning(
            "redis_forgets",
            "Redis writes nothing to disk, so limits and budgets begin anew when it restarts",
            "run: redis-cli config set appendonly yes",
        )
