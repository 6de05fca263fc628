"""Parameters of OpenAI's usage API, and the interval that they select."""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from maxgate.errors import InvalidRequest
from maxgate.stores.usage import WIDTH_SECONDS, Dimension, Width
from maxgate.usage.reports import round_outwards

MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999."""
LIMITS: Final[Mapping[Width, tuple[int, int]]] = {"1d": (7, 31), "1h": (24, 168), "1m": (60, 1440)}
"""Default and maximum of `limit`, as OpenAI has them."""
MAX_COST_DAYS: Final = 180
_CURSOR: Final = struct.Struct(">QQ")
_CURSOR_PREFIX: Final = "page_"

UnixTime: TypeAlias = Annotated[int, Field(ge=0, le=MAX_TIME)]
Names: TypeAlias = Annotated[
    list[Annotated[str, Field(max_length=200)]] | None, Field(max_length=100)
]
UsageGroup: TypeAlias = Literal["project_id", "user_id", "api_key_id", "model"]
CompletionsGroup: TypeAlias = Literal[
    "project_id", "user_id", "api_key_id", "model", "batch", "api_source"
]
CostsGroup: TypeAlias = Literal["project_id", "user_id", "line_item", "api_key_id", "api_source"]


class PageOfTime(NamedTuple):
    """The interval of a page, and the cursor of the next one."""

    start: int
    end: int
    next_page: str | None


class TimeQuery(BaseModel):
    """Buckets of an interval; `end_time` is excluded, and is the present by default.

    Lists are repeated parameters with brackets, as OpenAI's clients send them, or without.
    """

    model_config = ConfigDict(extra="forbid")

    start_time: UnixTime
    end_time: UnixTime | None = None
    page: str | None = Field(default=None, max_length=100)
    project_ids: Names = None
    project_ids_: Names = Field(default=None, alias="project_ids[]")
    api_key_ids: Names = None
    api_key_ids_: Names = Field(default=None, alias="api_key_ids[]")

    def build_filters(self) -> dict[Dimension, frozenset[str]]:
        """Return the values of each dimension that count."""
        return {
            "project_id": frozenset((self.project_ids or []) + (self.project_ids_ or [])),
            "api_key_id": frozenset((self.api_key_ids or []) + (self.api_key_ids_ or [])),
        }

    def build_page(self, width: Width, limit: int, now: float) -> PageOfTime:
        """Return up to `limit` buckets; raises InvalidRequest for a page of another query."""
        if self.end_time is not None and self.end_time <= self.start_time:
            raise InvalidRequest("'end_time' must be after 'start_time'.", param="end_time")
        seconds = WIDTH_SECONDS[width]
        given = int(now) + 1 if self.end_time is None else self.end_time
        first, end = round_outwards(width, self.start_time, given)
        start = first
        if self.page is not None:
            start, cursor_end = decode_cursor(self.page)
            is_of_query = start % seconds == 0 and first < start < cursor_end <= MAX_TIME + seconds
            if not is_of_query or (self.end_time is not None and cursor_end != end):
                raise InvalidRequest("'page' belongs to another query.", param="page")
            end = cursor_end
        page_end = start - start % seconds + limit * seconds
        if page_end >= end:
            return PageOfTime(start, end, None)
        return PageOfTime(start, page_end, encode_cursor(page_end, end))


class UsageQuery(TimeQuery):
    """Usage of an interval."""

    bucket_width: Width = "1d"
    limit: int | None = Field(default=None, ge=1)
    user_ids: Names = None
    user_ids_: Names = Field(default=None, alias="user_ids[]")
    models: Names = None
    models_: Names = Field(default=None, alias="models[]")
    group_by: list[UsageGroup] | None = Field(default=None, max_length=10)
    group_by_: list[UsageGroup] | None = Field(default=None, alias="group_by[]", max_length=10)

    def build_filters(self) -> dict[Dimension, frozenset[str]]:
        """Return the values of each dimension that count."""
        return {
            **super().build_filters(),
            "user_id": frozenset((self.user_ids or []) + (self.user_ids_ or [])),
            "model": frozenset((self.models or []) + (self.models_ or [])),
        }

    def list_groups(self) -> frozenset[str]:
        """Return what results are grouped by."""
        return frozenset([*(self.group_by or ()), *(self.group_by_ or ())])

    def choose_limit(self) -> int:
        """Return the number of buckets of a page; raises InvalidRequest."""
        default, maximum = LIMITS[self.bucket_width]
        if self.limit is not None and self.limit > maximum:
            raise InvalidRequest(
                f"'limit' must be at most {maximum} with bucket_width {self.bucket_width}.",
                param="limit",
            )
        return self.limit or default


class CompletionsQuery(UsageQuery):
    """Usage of chats and completions; no request belongs to a batch."""

    batch: bool | None = None
    group_by: list[CompletionsGroup] | None = Field(  # type: ignore[assignment]
        default=None, max_length=10
    )
    group_by_: list[CompletionsGroup] | None = Field(  # type: ignore[assignment]
        default=None, alias="group_by[]", max_length=10
    )


class CostsQuery(TimeQuery):
    """Costs of an interval, by the day."""

    bucket_width: Literal["1d"] = "1d"
    limit: int = Field(default=7, ge=1, le=MAX_COST_DAYS)
    line_items: Names = None
    line_items_: Names = Field(default=None, alias="line_items[]")
    group_by: list[CostsGroup] | None = Field(default=None, max_length=10)
    group_by_: list[CostsGroup] | None = Field(default=None, alias="group_by[]", max_length=10)

    def list_groups(self) -> frozenset[str]:
        """Return what results are grouped by."""
        return frozenset([*(self.group_by or ()), *(self.group_by_ or ())])

    def list_items(self) -> frozenset[str]:
        """Return the line items that count; none allows all."""
        return frozenset([*(self.line_items or ()), *(self.line_items_ or ())])


def encode_cursor(start: int, end: int) -> str:
    """Return the cursor of the buckets from `start` to `end`."""
    return _CURSOR_PREFIX + urlsafe_b64encode(_CURSOR.pack(start, end)).decode()


def decode_cursor(cursor: str) -> tuple[int, int]:
    """Return the interval of a cursor; raises InvalidRequest."""
    try:
        content = urlsafe_b64decode(cursor.removeprefix(_CURSOR_PREFIX).encode("ascii"))
        start, end = _CURSOR.unpack(content)
    except (ValueError, struct.error):
        raise InvalidRequest(
            "'page' must be the 'next_page' of another response.", param="page"
        ) from None
    return start, end
