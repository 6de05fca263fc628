"""Usage and names in the database, as the commands read them: without a gateway."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from maxgate.cli.organization import list_all, read
from maxgate.cli.usage_tables import GroupName
from maxgate.clock import SystemClock
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings
from maxgate.stores.identity import IdentityTransaction
from maxgate.stores.usage import EntryQuery, UsageEntry
from maxgate.usage.rate_cards import Charge, RateCards
from maxgate.usage.reports import ReportBucket, ReportQuery, UsageReports


@asynccontextmanager
async def open_reports(settings: Settings) -> AsyncIterator[UsageReports]:
    """Open the database of usage; raises ConfigurationError if there is none."""
    from maxgate.composition.usage import open_usage  # noqa: PLC0415  # slow to import

    clock = SystemClock()
    store = await asyncio.to_thread(open_usage, settings, clock)
    if store is None:
        raise ConfigurationError(
            "usage is not recorded; set usage.enabled (MAXGATE_USAGE__ENABLED) to true"
        )
    try:
        yield UsageReports(store, RateCards(settings.pricing), clock)
    finally:
        await store.aclose()


def read_usage(
    settings: Settings, query: ReportQuery, *, by_bucket: bool
) -> Sequence[ReportBucket]:
    """Return all buckets of an interval, or the whole interval as one."""

    async def work() -> Sequence[ReportBucket]:
        async with open_reports(settings) as reports:
            if by_bucket:
                return await reports.list_buckets(query)
            return [ReportBucket(query.start, query.end, await reports.sum(query))]

    return asyncio.run(work())


def read_entries(settings: Settings, query: EntryQuery) -> Sequence[tuple[UsageEntry, Charge]]:
    """Return lines of the ledger with what each costs, newest first."""

    async def work() -> Sequence[tuple[UsageEntry, Charge]]:
        async with open_reports(settings) as reports:
            return [line async for line in reports.iterate_entries(query)]

    return asyncio.run(work())


def load_names(settings: Settings, groups: Sequence[GroupName]) -> dict[str, str]:
    """Return the names of projects, users, service accounts and keys, as the groups need them."""
    if not settings.database.is_enabled:
        return {}

    async def work(rows: IdentityTransaction) -> dict[str, str]:
        projects = await list_all(rows.projects)
        names = {project.id: project.name for project in projects if "project" in groups}
        if "user" in groups:
            names |= {user.id: user.email for user in await list_all(rows.users)}
        for project in projects:
            if "key" in groups:
                keys = await list_all(rows.keys, project_id=project.id)
                names |= {key.id: key.name for key in keys}
            if "user" in groups:
                accounts = await list_all(rows.service_accounts, project_id=project.id)
                names |= {account.id: account.name for account in accounts}
        return names

    return read(work) if {"project", "user", "key"} & set(groups) else {}
