"""One response as it arrives, and the comparison of two of them."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from pydantic import BaseModel

from maxgate.generation.chunk import Chunk


class Times(BaseModel):
    """Times of one response in seconds; see TimeComparison."""

    ttft: float | None = None
    tpot: float | None = None
    time_per_token: float | None = None


class Sample(BaseModel):
    """One request that was compared.

    `old` or `new` is None for an engine that did not serve it. `prefix` is the share of the
    response, from 0 to 1, before the first difference, which is at token `divergence`. `gap` is
    the largest difference of the log probabilities of the two likeliest tokens there. `error` is
    the code of a failure of the new engine.
    """

    old: Times | None = None
    new: Times | None = None
    prefix: float | None = None
    divergence: int | None = None
    gap: float | None = None
    error: str | None = None


class WorkerReport(BaseModel):
    """The part of one worker in a canary; `samples` are those that follow the ones reported.

    `models` are those that both the new engine and the normal ones serve.
    """

    models: list[str] = []
    error: str | None = None
    halted: bool = False
    in_progress: int = 0
    seen: int = 0
    skipped: dict[str, int] = {}
    samples: list[Sample] = []


class ResponseRecorder:
    """Tokens and times of one response; `was_closed` if it was left before its end."""

    def __init__(self, time: Callable[[], float], *, stream: bool) -> None:
        self._time = time
        self._stream = stream
        self._started_at = time()
        self._first_at: float | None = None
        self._last_at = self._started_at
        self._texts: list[str] = []
        self._reported_tokens = 0
        self.ids: list[int] = []
        self.finish_reason: str | None = None

    def add(self, chunk: Chunk) -> None:
        """Add the next chunk."""
        if chunk.usage is not None:
            self._reported_tokens = chunk.usage.completion
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if not chunk.text and not chunk.token_ids and chunk.finish_reason is None:
            return
        self._last_at = self._time()
        if self._first_at is None:
            self._first_at = self._last_at
        self._texts.append(chunk.text)
        self.ids += chunk.token_ids

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self._texts)

    @property
    def duration(self) -> float:
        """Seconds from the start to the last token."""
        return self._last_at - self._started_at

    @property
    def times(self) -> Times:
        """The times that this response has."""
        tokens = len(self.ids) or self._reported_tokens
        if self._first_at is None:
            return Times()
        if not self._stream:
            return Times(time_per_token=self.duration / tokens if tokens else None)
        after_first = self._last_at - self._first_at
        tpot = after_first / (tokens - 1) if tokens > 1 else None
        return Times(ttft=self._first_at - self._started_at, tpot=tpot)


class Difference(NamedTuple):
    """Where two responses differ: the share before it, and its position, None if they are equal."""

    prefix: float
    divergence: int | None


def compare(old: ResponseRecorder, new: ResponseRecorder) -> Difference:
    """Compare two responses by their tokens, or by their text if an engine reports no ids.

    A response that was left before its end is compared as far as it goes.
    """
    has_ids = bool(old.ids and new.ids)
    left: Sequence[Any] = old.ids if has_ids else old.text
    right: Sequence[Any] = new.ids if has_ids else new.text
    pairs = zip(left, right, strict=False)
    agreed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    was_left = old.finish_reason is None
    # One of two versions may report the token that ends the response.
    ends_alike = old.finish_reason == new.finish_reason and old.text == new.text
    is_equal = agreed == len(left) and (was_left or agreed == len(right))
    if is_equal or (ends_alike and agreed == min(len(left), len(right))):
        return Difference(1.0, None)
    return Difference(agreed / max(len(left), 1), agreed)
