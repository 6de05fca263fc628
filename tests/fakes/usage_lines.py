"""An entry of the ledger, and the values of its line."""

from collections.abc import Sequence
from dataclasses import astuple

import orjson

from maxgate.stores.usage import UsageBatch, UsageEntry

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
    """Return a batch of entries, whose own `spool` is left out."""
    lines = [orjson.dumps(astuple(entry)[1:]) for entry in entries]
    return UsageBatch(spool, start, end, lines)


def read_entry(spool: str, line: bytes) -> UsageEntry:
    """Return the entry of a line of a batch."""
    row = orjson.loads(line)
    return UsageEntry(spool, *row[:-1], tuple(row[-1]))
