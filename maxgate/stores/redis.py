"""Redis, which may be down: every call is bounded in time, and the gateway goes on without it.

Needs the extra `redis`; import it within `requires_extra("redis.url", "redis")`.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from maxgate.clock import Clock, SystemClock
from maxgate.errors import MaxgateError
from maxgate.stores.settings import RedisSettings

RETRY_SECONDS: Final = 1.0
"""Interval of trial calls while Redis is down; all others fail at once."""
_GRACE_TURNS: Final = 8
"""Turns of the event loop after a timeout in which a reply still counts: the loop may be busy."""
_MAX_CONNECTIONS: Final = 256
"""Per process; further calls fail."""

_log = structlog.get_logger("stores")


class RedisUnavailable(MaxgateError):
    """Redis cannot be reached, is too slow, or refuses the call."""


class RedisScript:
    """A Lua script."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """The connections of this process to Redis; logs each outage once, and its end.

    Connects when it is first needed. Bytes in replies are not decoded.
    """

    def __init__(self, settings: RedisSettings, *, clock: Clock | None = None) -> None:
        url = settings.url or ""
        parts = urlsplit(url)
        self.key_prefix = settings.key_prefix
        self._address = settings.address
        self._timeout = settings.timeout
        self._clock = clock or SystemClock()
        self._down_since: float | None = None
        self._retry_at = 0.0
        tls: dict[str, Any] = {}
        if parts.scheme == "rediss":
            tls = {"ssl_ca_certs": str(settings.ca_file) if settings.ca_file else None}
        self._client: Redis = Redis.from_url(
            url,
            protocol=2,  # proxies and old servers know no other
            # The timeout of the call comes first; these have no regard for a busy loop.
            socket_timeout=2 * settings.timeout + 1,
            socket_connect_timeout=2 * settings.timeout + 1,
            max_connections=_MAX_CONNECTIONS,
            # An idle connection may have been closed by the server.
            retry=Retry(NoBackoff(), 1),
            **tls,
        )

    async def run_script(
        self, script: RedisScript, keys: Sequence[str], args: Sequence[str | int | float]
    ) -> Any:
        """Run a script, and load it if Redis does not have it; raises RedisUnavailable.

        A script whose reply is lost may have run.
        """
        now = self._clock.monotonic()
        if self._down_since is not None:
            if now < self._retry_at:
                raise RedisUnavailable(f"Redis at {self._address} is unavailable")
            self._retry_at = now + RETRY_SECONDS
        try:
            async with asyncio.timeout(None) as timeout:
                timer = asyncio.get_running_loop().call_later(
                    self._timeout, _expire, timeout, _GRACE_TURNS
                )
                try:
                    reply = await self._run(script, keys, args)
                finally:
                    timer.cancel()
        except TimeoutError as error:
            raise self._fail(f"no reply within {self._timeout} s") from error
        except (RedisError, OSError) as error:
            raise self._fail(str(error) or type(error).__name__) from error
        if self._down_since is not None:
            seconds = round(self._clock.monotonic() - self._down_since, 1)
            self._down_since = None
            _log.info("Redis is available again", address=self._address, seconds=seconds)
        return reply

    async def close(self) -> None:
        """Close all connections; never raises."""
        with suppress(RedisError, OSError):
            await self._client.aclose()

    async def _run(
        self, script: RedisScript, keys: Sequence[str], args: Sequence[str | int | float]
    ) -> Any:
        try:
            return await self._client.evalsha(script.digest, len(keys), *keys, *args)
        except NoScriptError:  # Redis has been started anew
            return await self._client.eval(script.text, len(keys), *keys, *args)

    def _fail(self, reason: str) -> RedisUnavailable:
        now = self._clock.monotonic()
        self._retry_at = now + RETRY_SECONDS
        if self._down_since is None:
            self._down_since = now
            _log.warning("Redis is unavailable", address=self._address, error=reason)
        return RedisUnavailable(f"Redis at {self._address} is unavailable: {reason}")


def _expire(timeout: asyncio.Timeout, turns: int) -> None:
    """Let a timeout expire after some turns of the loop, unless its block has been left."""
    loop = asyncio.get_running_loop()
    if turns:
        loop.call_soon(_expire, timeout, turns - 1)
        return
    with suppress(RuntimeError):
        timeout.reschedule(loop.time())
