"""An entry of the ledger, its row, and groups of rows."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import orjson

from maxgate.stores.usage import EntryGroup, UsageBatch, UsageEntry

ENTRY = UsageEntry(
    spool="s1",
    sequence=7,
    finished_at=1.8e9,
    request_id="req_1",
    kind="completions",
    route="/v1/chat/completions",
    project_id="proj_a",
    user_id="ann",
    api_key_id="",
    model="llama",
    engine=None,
    outcome="ok",
    status=200,
    is_stream=True,
    is_cached=False,
    attempts=1,
    input_tokens=10,
    cached_tokens=4,
    output_tokens=5,
    queue_seconds=0.5,
    first_token_seconds=None,
    total_seconds=2.0,
    engine_seconds=1.5,
    gpu_seconds=0.25,
    service_tier="flex",
    tags={"a\n": "ü\0"},
    decisions=("pii",),
)
VALUES = astuple(ENTRY)[1:]


def make_batch(spool: str, start: int, end: int, entries: Sequence[UsageEntry]) -> UsageBatch:
    """Return a batch of entries in one group; their own `spool` is left out."""
    groups = [make_group([astuple(entry)[1:] for entry in entries])] if entries else []
    return UsageBatch(spool, start, end, groups)


def make_group(rows: Sequence[Sequence[Any]]) -> EntryGroup:
    """Return a group of any rows."""
    days = [int(row[1] // 86_400) for row in rows if isinstance(row[1], float)]
    return EntryGroup(len(rows), min(days, default=-1), max(days, default=-1), orjson.dumps(rows))


def read_entries(spool: str, group: EntryGroup) -> list[UsageEntry]:
    """Return the entries of a group."""
    return [UsageEntry(spool, *row[:-1], tuple(row[-1])) for row in orjson.loads(group.rows)]
