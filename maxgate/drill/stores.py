"""The scratch PostgreSQL and Redis of a drill, checked before anything is played.

A drill with a store that never was there would report that the gateway survives its loss.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.installation import requires_extra
from maxgate.settings_section import Section
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.settings import DatabaseSettings, RedisSettings

_TIMEOUT: Final = 5.0
_Section = TypeVar("_Section", bound=Section)


async def check_stores(stores: Mapping[str, str]) -> None:
    """Connect to the stores, whose URLs are those of --redis and --database.

    Raises ConfigurationError if a URL is invalid, or the server is unreachable.
    """
    if "redis" in stores:
        await _check_redis(_parse("--redis", RedisSettings, stores["redis"]))
    if "database" in stores:
        settings = _parse("--database", DatabaseSettings, stores["database"])
        if not settings.is_postgres:
            raise ConfigurationError(
                "--database: not a PostgreSQL; write postgresql://user@host:5432/name, or leave "
                "the option out for a scratch SQLite"
            )
        await asyncio.to_thread(_check_database, settings)


def _parse(flag: str, section: type[_Section], url: str) -> _Section:
    try:
        return section.model_validate({"url": url})
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigurationError(f"{flag}: {reason}") from error


async def _check_redis(settings: RedisSettings) -> None:
    with requires_extra("--redis", "redis"):
        from redis.asyncio import Redis  # noqa: PLC0415  # an extra
        from redis.exceptions import RedisError  # noqa: PLC0415
    client: Any = Redis.from_url(
        settings.url or "", socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
    )
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise ConfigurationError(
            f"scratch Redis at {settings.address} is unreachable ({error}); start it, or correct "
            "--redis"
        ) from error
    finally:
        await client.aclose()


def _check_database(settings: DatabaseSettings) -> None:
    from maxgate.stores.migrate import connect  # noqa: PLC0415  # slow to import

    try:
        with connect(settings, Path()):
            pass
    except StoreUnavailable as error:
        reason = str(error).removeprefix("the database at ")
        place, _, cause = reason.partition(": ")
        raise ConfigurationError(
            f"scratch PostgreSQL at {place} is unreachable ({cause}); start it, or correct "
            "--database"
        ) from error
