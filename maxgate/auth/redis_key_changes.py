"""Changes of keys in Redis: a sorted set of the ids of rows, which each gateway polls.

Needs the extra `redis`, as maxgate/stores/redis.py does.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from maxgate.auth.key_changes import Changes, KeyChanges
from maxgate.stores.redis import RedisScript, RedisStore, RedisUnavailable

RETENTION: Final = 1200
"""Seconds for which a change is kept."""
MAX_CHANGES: Final = 10_000
"""Changes that Redis keeps, and that wait in a process while Redis is away."""

_PUBLISH: Final = RedisScript(
    Path(__file__).with_name("publish_changes.lua").read_text(encoding="utf-8")
)
# The score of the newest change, that of the oldest, and the ids after the cursor.
_POLL: Final = RedisScript("""
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '0'
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '0'
return {newest, oldest, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')}
""")


class RedisKeyChanges(KeyChanges):
    """The changes of all gateways with the same Redis and key prefix; owns the store.

    A poll is incomplete if changes may be missing: the first one, and one after which Redis was
    unavailable, has lost its data or had too many of them.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        # In a cluster, keys with the same text in braces are on the same node.
        self._key = f"{store.key_prefix}:{{key-changes}}"
        self._cursor = 0
        self._was_reached = False
        self._unsent: dict[str, None] = {}

    @override
    async def publish(self, ids: Collection[str]) -> None:
        self._unsent.update(dict.fromkeys(ids))
        while len(self._unsent) > MAX_CHANGES:
            del self._unsent[next(iter(self._unsent))]
        await self._send()

    @override
    async def poll(self) -> Changes:
        await self._send()
        try:
            reply = await self._store.run_script(_POLL, [self._key], [self._cursor])
            newest, oldest, ids = _parse(reply)
        except RedisUnavailable:
            self._was_reached = False
            return Changes((), is_complete=True)  # there is nothing to do yet
        is_lost = newest < self._cursor
        is_cut = oldest > self._cursor and len(ids) >= MAX_CHANGES
        is_complete = self._was_reached and not is_lost and not is_cut
        self._cursor = 0 if is_lost else newest
        self._was_reached = True
        return Changes(ids, is_complete)

    @override
    async def aclose(self) -> None:
        await self._send()
        await self._store.close()

    async def _send(self) -> None:
        if not self._unsent:
            return
        ids = list(self._unsent)
        try:
            await self._store.run_script(_PUBLISH, [self._key], [RETENTION, MAX_CHANGES, *ids])
        except RedisUnavailable:
            return
        for sent in ids:
            self._unsent.pop(sent, None)


def _parse(reply: Any) -> tuple[int, int, list[str]]:
    """Check a reply of the script; raises RedisUnavailable if it is not one."""
    try:
        newest, oldest, ids = reply
        return int(newest), int(oldest), [str(changed, "utf-8") for changed in ids]
    except (TypeError, ValueError) as error:
        raise RedisUnavailable("the reply of Redis is not a list of changes") from error
