"""Counters of gateways on several hosts: a Redis hash for each, changed by one script.

Needs the extra `redis`, as maxgate/stores/redis.py does.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from typing_extensions import override

from maxgate.limits.table import (
    FORGET_SECONDS,
    GRACE_SECONDS,
    LEASE_SECONDS,
    CountersUnavailable,
    CounterTable,
    Reply,
    Report,
    State,
    Take,
)
from maxgate.stores.redis import RedisScript, RedisStore, RedisUnavailable

EXCHANGE_SCRIPT: Final = RedisScript(Path(__file__).with_name("exchange.lua").read_text("utf-8"))


class RedisTable(CounterTable):
    """The counters of all gateways with the same Redis and key prefix.

    All keys have one hash tag, because a request takes all of its limits in one script. It owns the
    store, which is closed with `leave`.
    """

    is_shared = True
    is_local = False

    def __init__(self, store: RedisStore, *, script: RedisScript = EXCHANGE_SCRIPT) -> None:
        self._store = store
        self._script = script
        self._prefix = f"{store.key_prefix}:{{limits}}:"
        self._keys = [f"{self._prefix}holders", f"{self._prefix}birth"]
        self.exchanges = 0

    @override
    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        keys = [*self._keys, *[self._prefix + report.key for report in reports]]
        self.exchanges += 1
        args = self._encode(holder, reports, takes, birth, LEASE_SECONDS)
        try:
            return _parse(await self._store.run_script(self._script, keys, args), len(reports))
        except RedisUnavailable as error:
            raise CountersUnavailable(str(error)) from error

    @override
    def exchange_now(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        raise NotImplementedError

    @override
    async def leave(self, holder: str) -> None:
        try:
            args = self._encode(holder, (), (), "", 0)
            await self._store.run_script(self._script, self._keys, args)
        except RedisUnavailable:
            pass
        await self._store.close()

    @staticmethod
    def _encode(
        holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str, lease: float
    ) -> list[str | int | float]:
        args: list[str | int | float] = [
            holder,
            round(lease * 1000),
            round(FORGET_SECONDS * 1000),
            birth,
            uuid4().hex,
            len(reports),
        ]
        for report in reports:
            needs_base = report.rebuilds and report.base is None
            args += (
                round((report.ends_at + GRACE_SECONDS) * 1000) if isfinite(report.ends_at) else 0,
                report.limit,
                report.used,
                report.held,
                report.wish,
                int(report.charges),
                -1 if needs_base else report.base or 0,
            )
        for take in takes:
            args.append(len(take))
            for index, amount in take:
                args += index + 1, amount
        return args


def _parse(reply: Any, counters: int) -> Reply:
    """Check a reply of the script; raises CountersUnavailable if it is not one."""
    try:
        birth, holders, missing, states, refused = reply
        pairs = list(zip(map(int, states[::2]), map(int, states[1::2]), strict=True))
        if pairs and len(pairs) != counters:
            raise ValueError(states)  # noqa: TRY301  # handled as the others
        return Reply(
            [State(*pair) for pair in pairs],
            [int(cause) - 1 if cause else None for cause in refused],
            int(holders),
            str(birth, "ascii"),
            [int(index) - 1 for index in missing],
        )
    except (TypeError, ValueError) as error:
        raise CountersUnavailable("the reply of Redis is not one of the script") from error
