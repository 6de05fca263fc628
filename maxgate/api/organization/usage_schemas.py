"""Objects of OpenAI's usage API, with the same fields; all times are in Unix seconds."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel


class UsageResult(BaseModel):
    """Usage of one group; a dimension that is not grouped by is null."""

    input_tokens: int
    num_model_requests: int
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None


class CompletionsResult(UsageResult):
    """Usage of chats and completions; `input_tokens` include those from the cache."""

    object: Literal["organization.usage.completions.result"] = (
        "organization.usage.completions.result"
    )
    input_cached_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    input_audio_tokens: Literal[0] = 0
    output_audio_tokens: Literal[0] = 0
    batch: Literal[False] | None = None
    service_tier: None = None
    api_source: Literal["unlabeled"] | None = None


class EmbeddingsResult(UsageResult):
    """Usage of embeddings."""

    object: Literal["organization.usage.embeddings.result"] = "organization.usage.embeddings.result"


class ModerationsResult(UsageResult):
    """Usage of moderations."""

    object: Literal["organization.usage.moderations.result"] = (
        "organization.usage.moderations.result"
    )


class Amount(BaseModel):
    """An amount in a currency of ISO 4217, in lower case."""

    value: float
    currency: str


class CostsResult(BaseModel):
    """The price of usage; `quantity` is that of a line item."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None = None
    quantity: float | None = None
    quantity_unit: Literal["tokens", "duration_seconds"] | None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    api_source: Literal["unlabeled"] | None = None


Result = TypeVar("Result", bound=BaseModel)


class UsageBucket(BaseModel, Generic[Result]):
    """An interval, and one result per group; there is none without usage."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[Result]


class UsagePage(BaseModel, Generic[Result]):
    """Consecutive buckets; `next_page` is the `page` of those that follow."""

    object: Literal["page"] = "page"
    data: list[UsageBucket[Result]]
    has_more: bool
    next_page: str | None
