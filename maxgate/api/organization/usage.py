"""/v1/organization/usage and /costs: the usage ledger in OpenAI's shapes.

Costs are prices: the amounts that users are charged.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal, NamedTuple, TypeVar, cast, get_args

from fastapi import Depends, Query, Request, Response

from maxgate.api.organization.dependencies import create_router
from maxgate.api.organization.usage_queries import (
    CompletionsQuery,
    CostsQuery,
    UsageGroup,
    UsageQuery,
)
from maxgate.api.organization.usage_schemas import (
    Amount,
    CompletionsResult,
    CostsResult,
    EmbeddingsResult,
    ModerationsResult,
    UsageBucket,
    UsagePage,
    UsageResult,
)
from maxgate.auth.organization.changes import translate_errors
from maxgate.errors import NotSupported
from maxgate.stores.identity import ApiKey
from maxgate.stores.usage import Dimension, Kind
from maxgate.usage.rate_cards import CURRENCY
from maxgate.usage.reports import ReportBucket, ReportQuery, ReportRow, UsageReports

router = create_router()

_DIMENSIONS: Final = frozenset(get_args(UsageGroup))
_Result = TypeVar("_Result", bound=UsageResult)


class NoUsage(NamedTuple):
    """The gateway has no usage to show; `reason` names the setting."""

    reason: str


def get_reports(request: Request, response: Response) -> UsageReports:
    """Return the reports of usage; raises NotSupported if usage is not recorded."""
    reports: UsageReports | NoUsage = request.app.state.usage
    if isinstance(reports, NoUsage):
        raise NotSupported(reports.reason)
    response.headers["cache-control"] = "no-store"
    return reports


Reports = Annotated[UsageReports, Depends(get_reports)]


class KeySpending:
    """Sums what the usage of keys costs their users, if usage is recorded."""

    def __init__(self, request: Request) -> None:
        self._reports: UsageReports | NoUsage = request.app.state.usage

    async def sum(self, key: ApiKey) -> float | None:
        """Return the price of all usage of a key, in the currency; None if it is unknown.

        Raises DatabaseUnavailable.
        """
        reports = self._reports
        if isinstance(reports, NoUsage):
            return None
        filters: dict[Dimension, frozenset[str]] = {
            "project_id": frozenset({key.project_id}),
            "api_key_id": frozenset({key.id}),
        }
        query = ReportQuery("1d", key.created_at, int(reports.now()) + 1, filters=filters)
        with translate_errors():
            rows = await reports.sum(query)
        return sum(row.charge.price.total for row in rows) / CURRENCY


Spending = Annotated[KeySpending, Depends()]


@router.get("/usage/completions", operation_id="usage_completions")
async def list_completions_usage(
    query: Annotated[CompletionsQuery, Query()], reports: Reports
) -> UsagePage[CompletionsResult]:
    """Sum the usage of chats and completions."""
    groups = query.list_groups()
    batch: Literal[False] | None = False if "batch" in groups else None
    source: Literal["unlabeled"] | None = "unlabeled" if "api_source" in groups else None

    def build(row: ReportRow) -> CompletionsResult:
        return CompletionsResult(
            **_describe(row),
            input_cached_tokens=row.cached_tokens,
            input_uncached_tokens=row.input_tokens - row.cached_tokens,
            output_tokens=row.output_tokens,
            batch=batch,
            api_source=source,
        )

    return await _read(reports, query, "completions", build, is_empty=query.batch is True)


@router.get("/usage/embeddings", operation_id="usage_embeddings")
async def list_embeddings_usage(
    query: Annotated[UsageQuery, Query()], reports: Reports
) -> UsagePage[EmbeddingsResult]:
    """Sum the usage of embeddings."""
    return await _read(reports, query, "embeddings", lambda row: EmbeddingsResult(**_describe(row)))


@router.get("/usage/moderations", operation_id="usage_moderations")
async def list_moderations_usage(
    query: Annotated[UsageQuery, Query()], reports: Reports
) -> UsagePage[ModerationsResult]:
    """Sum the usage of moderations."""
    return await _read(
        reports, query, "moderations", lambda row: ModerationsResult(**_describe(row))
    )


async def _read(
    reports: UsageReports,
    query: UsageQuery,
    kind: Kind,
    build: Callable[[ReportRow], _Result],
    *,
    is_empty: bool = False,
) -> UsagePage[_Result]:
    width = query.bucket_width
    page = query.build_page(width, query.choose_limit(), reports.now())
    with translate_errors():
        buckets = await reports.list_buckets(
            ReportQuery(
                width,
                page.start,
                page.end,
                frozenset({kind}),
                query.build_filters(),
                cast("frozenset[Dimension]", query.list_groups() & _DIMENSIONS),
            )
        )
    data: list[UsageBucket[_Result]] = [
        UsageBucket(
            start_time=bucket.start,
            end_time=bucket.end,
            results=[] if is_empty else list(map(build, bucket.rows)),
        )
        for bucket in buckets
    ]
    return UsagePage(data=data, has_more=page.next_page is not None, next_page=page.next_page)


def _describe(row: ReportRow) -> dict[str, int | str | None]:
    project_id, user_id, api_key_id, model = row.group
    return {
        "input_tokens": row.input_tokens,
        "num_model_requests": row.requests,
        "project_id": project_id,
        "user_id": user_id,
        "api_key_id": api_key_id,
        "model": model,
    }


@router.get("/costs", operation_id="costs")
async def list_costs(
    query: Annotated[CostsQuery, Query()], reports: Reports
) -> UsagePage[CostsResult]:
    """Sum the price of all usage by the day."""
    groups, items = query.list_groups(), query.list_items()
    page = query.build_page("1d", query.limit, reports.now())
    dimensions = set(groups & _DIMENSIONS)
    if items or "line_item" in groups:
        dimensions.add("model")
    with translate_errors():
        buckets = await reports.list_buckets(
            ReportQuery(
                "1d",
                page.start,
                page.end,
                filters=query.build_filters(),
                group_by=cast("frozenset[Dimension]", frozenset(dimensions)),
            )
        )
    data = [_build_costs(bucket, groups, items, reports.cards.currency) for bucket in buckets]
    return UsagePage(data=data, has_more=page.next_page is not None, next_page=page.next_page)


class _LineItem(NamedTuple):
    name: str
    unit: Literal["tokens", "duration_seconds"]
    quantity: float
    amount: int


def _list_items(row: ReportRow) -> Iterator[_LineItem]:
    price, model = row.charge.price, row.group[-1] or ""
    uncached = row.input_tokens - row.cached_tokens
    yield _LineItem(f"{model}, input_tokens", "tokens", uncached, price.input)
    cached = row.cached_tokens
    yield _LineItem(f"{model}, cached_input_tokens", "tokens", cached, price.cached_input)
    yield _LineItem(f"{model}, output_tokens", "tokens", row.output_tokens, price.output)
    yield _LineItem(f"{model}, gpu_seconds", "duration_seconds", row.gpu_seconds, price.gpu_time)


def _build_costs(
    bucket: ReportBucket, groups: frozenset[str], items: frozenset[str], currency: str
) -> UsageBucket[CostsResult]:
    """Sum rows by group; each row has a model if `items` or line items are asked for."""
    sums: dict[tuple[str | None, ...], tuple[int, _LineItem | None]] = {}
    is_itemized = "line_item" in groups
    for row in bucket.rows:
        names = row.group[:-1]
        if not (is_itemized or items):
            sums[*names, None] = (row.charge.price.total, None)
            continue
        for item in _list_items(row):
            if item.quantity and (not items or item.name in items):
                key = (*names, item.name if is_itemized else None)
                before = sums.get(key, (0, None))[0]
                sums[key] = (before + item.amount, item if is_itemized else None)
    return UsageBucket(
        start_time=bucket.start,
        end_time=bucket.end,
        results=[
            CostsResult(
                amount=Amount(value=amount / CURRENCY, currency=currency),
                line_item=name,
                quantity=None if item is None else item.quantity,
                quantity_unit=None if item is None else item.unit,
                project_id=project_id,
                user_id=user_id,
                api_key_id=api_key_id,
                api_source="unlabeled" if "api_source" in groups else None,
            )
            for (project_id, user_id, api_key_id, name), (amount, item) in sums.items()
        ],
    )
