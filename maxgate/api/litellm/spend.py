"""LiteLLM's /spend/logs, from the usage ledger; AdminGuard keeps it to admins.

Spend is the price of usage. Lists are bounded, unlike LiteLLM's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from maxgate.api.litellm.routes import find_key
from maxgate.api.organization.dependencies import Admin, AdminRequest
from maxgate.api.organization.usage import Reports
from maxgate.auth.api_key import PREFIX
from maxgate.auth.organization.changes import translate_errors
from maxgate.errors import InvalidRequest
from maxgate.stores.usage import Dimension, EntryQuery, UsageEntry
from maxgate.usage.rate_cards import CURRENCY, Charge
from maxgate.usage.reports import ReportBucket, ReportQuery, UsageReports

router = APIRouter(prefix="/spend", tags=["litellm"])

MAX_LOGS: Final = 1000
"""Newest lines of the ledger in a response."""
MAX_DAYS: Final = 366
_DAY: Final = timedelta(days=1)
_CALL_TYPES: Final = {
    "completions": "acompletion",
    "embeddings": "aembedding",
    "moderations": "amoderation",
}


class SpendQuery(BaseModel):
    """Usage of a key (its text or id), user or request, on these days; both dates are included.

    With both dates, `summarize` returns one object per day.
    """

    model_config = ConfigDict(extra="forbid")

    api_key: str | None = Field(default=None, max_length=200)
    user_id: str | None = Field(default=None, max_length=200)
    request_id: str | None = Field(default=None, max_length=200)
    start_date: date | None = None
    end_date: date | None = None
    summarize: bool = True


class SpendLog(BaseModel):
    """A request, with LiteLLM's names; `api_key` is the id of the key and `team_id` a project."""

    request_id: str
    call_type: str
    api_key: str
    spend: float
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    startTime: str  # noqa: N815  # LiteLLM's
    endTime: str  # noqa: N815
    completionStartTime: str | None  # noqa: N815
    model: str
    model_group: str
    api_base: str
    user: str
    team_id: str
    cache_hit: str
    metadata: dict[str, str]
    request_tags: list[str]
    status: str


@router.get("/logs", operation_id="litellm_spend_logs")
async def list_spend_logs(
    query: Annotated[SpendQuery, Query()], admin: Admin, reports: Reports
) -> list[dict[str, Any]]:
    """List requests, the newest first, or sum the days between two dates.

    A sum has the spend of each day, of its users and models, and of each key by its id.
    """
    start, end = _choose_interval(query, reports.now())
    filters: dict[Dimension, frozenset[str]] = {}
    if query.api_key is not None:
        filters["api_key_id"] = frozenset({await _find_key_id(query.api_key, admin)})
    if query.user_id is not None:
        filters["user_id"] = frozenset({query.user_id})
    has_dates = query.start_date is not None and query.end_date is not None
    with translate_errors():
        if has_dates and query.summarize and query.request_id is None:
            return await _sum_days(reports, start, end, filters)
        lines = reports.iterate_entries(
            EntryQuery(start, end, filters, query.request_id, limit=MAX_LOGS)
        )
        return [_describe(entry, charge).model_dump() async for entry, charge in lines]


def _choose_interval(query: SpendQuery, now: float) -> tuple[int, int]:
    """Return the edges of whole days in UTC; raises InvalidRequest."""
    today = datetime.fromtimestamp(now, UTC).date()
    first, last = query.start_date or date(1970, 1, 1), query.end_date or today
    if last < first or first.year < 1970 or last.year > 9000:
        raise InvalidRequest(
            "'start_date' must not be after 'end_date', and both must be from 1970 to 9000.",
            param="start_date",
        )
    if query.start_date is not None and query.summarize and (last - first).days >= MAX_DAYS:
        raise InvalidRequest(f"At most {MAX_DAYS} days can be summarized.", param="start_date")
    start, end = (
        int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        for day in (first, last + _DAY)
    )
    return start, end


async def _find_key_id(key: str, admin: AdminRequest) -> str:
    if not key.startswith(PREFIX):
        return key  # an id, of a key that may have been deleted since
    async with admin.read() as rows:
        return (await find_key(rows, admin, key)).id


async def _sum_days(
    reports: UsageReports, start: int, end: int, filters: dict[Dimension, frozenset[str]]
) -> list[dict[str, Any]]:
    dimensions: Sequence[Dimension] = ("user_id", "api_key_id", "model")
    query = ReportQuery("1d", start, end, filters=filters, group_by=frozenset(dimensions))
    return [_sum_day(bucket) for bucket in await reports.list_buckets(query)]


def _sum_day(bucket: ReportBucket) -> dict[str, Any]:
    users, keys, models = (defaultdict[str, int](int) for _ in range(3))
    for row in bucket.rows:
        _, *names = row.group
        for sums, name in zip((users, keys, models), names, strict=True):
            sums[name or ""] += row.charge.price.total
    day = datetime.fromtimestamp(bucket.start, UTC).date()
    return {
        **_convert(keys),
        "startTime": day.isoformat(),
        "spend": sum(users.values()) / CURRENCY,
        "users": _convert(users),
        "models": _convert(models),
    }


def _convert(sums: Mapping[str, int]) -> dict[str, float]:
    return {name: amount / CURRENCY for name, amount in sums.items()}


def _describe(entry: UsageEntry, charge: Charge) -> SpendLog:
    started_at = entry.finished_at - entry.total_seconds
    first = entry.first_token_seconds
    return SpendLog(
        request_id=entry.request_id,
        call_type=_CALL_TYPES[entry.kind],
        api_key=entry.api_key_id,
        spend=charge.price.total / CURRENCY,
        total_tokens=entry.input_tokens + entry.output_tokens,
        prompt_tokens=entry.input_tokens,
        completion_tokens=entry.output_tokens,
        startTime=_format_time(started_at),
        endTime=_format_time(entry.finished_at),
        completionStartTime=None if first is None else _format_time(started_at + first),
        model=entry.model,
        model_group=entry.model,
        api_base=entry.engine or "",
        user=entry.user_id,
        team_id=entry.project_id,
        cache_hit=str(entry.is_cached),
        metadata=dict(entry.tags),
        request_tags=[f"{name}:{value}" for name, value in entry.tags.items()],
        status="success" if entry.outcome == "ok" else "failure",
    )


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
