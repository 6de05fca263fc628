"""Recorded workloads: requests that leave at the times of a trace.

A trace with only lengths gets synthetic prompts. `hash_ids` identify blocks of tokens: requests
that start with the same IDs share a prefix, so prefix cache hits are reproduced.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import TraceOptions
from maxgate.loadtest.scenarios.datasets import Dataset, describe_notes
from maxgate.loadtest.scenarios.scenario import Scenario, Turn
from maxgate.loadtest.scenarios.source_file import SourceFile
from maxgate.loadtest.scenarios.synthetic import Write, prompt_writer
from maxgate.loadtest.scenarios.trace_reader import TraceRows, read_rows

_CACHED_BLOCKS: Final = 4096
_UNIT_TITLES: Final = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class LengthWorkload(Scenario):
    """Synthetic prompts with the recorded lengths and shared prefixes."""

    single_turn = True

    rows: TraceRows
    order: NDArray[np.integer[Any]]
    write: Write
    arrivals: Sequence[float] | None = None
    summary: Sequence[str] = ()
    live_responses: bool = False

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        row = int(self.order[index % len(self.order)])
        rows = self.rows
        length, parts = rows.inputs[row], []
        for block in rows.list_blocks(row):
            tokens = min(length, rows.columns.format.block_tokens)
            parts.append(_write_block(self.write, tokens, block))
            length -= tokens
        if length or not parts:
            parts.append(self.write(length, rng))
        output = rows.outputs[row]
        fields = {"max_tokens": output} if output > 0 else {}
        return [Turn([{"role": "user", "content": " ".join(parts)}], fields)]


@lru_cache(_CACHED_BLOCKS)
def _write_block(write: Write, tokens: int, block: int) -> str:
    return write(tokens, Random(f"block/{block}"))  # noqa: S311


def read_recorded_workload(
    source: SourceFile, options: TraceOptions, tokenizer: str | None
) -> Scenario | None:
    """The chosen part of the trace in order of time; the first request leaves at offset 0.

    None if the file is no trace. Raises ConfigurationError.
    """
    found = read_rows(source, options)
    if found is None:
        return None
    rows, order, times = found
    chosen = _choose_slice(times, options, source.name)
    summary = [*_describe(rows, times, source), *_describe_slice(times, chosen, options)]
    order = order[chosen]
    offsets = times[chosen] - times[chosen.start]
    arrivals = array("d", offsets.tobytes())
    if rows.bodies:
        return Dataset([rows.bodies[row] for row in order], arrivals, summary)
    return LengthWorkload(rows, order, prompt_writer(tokenizer), arrivals, summary)


def _choose_slice(times: NDArray[np.float64], options: TraceOptions, name: str) -> slice:
    end = np.inf if options.duration is None else options.start + options.duration
    first, last = np.searchsorted(times, [options.start, end], side="left")
    if first == last:
        raise ConfigurationError(
            f"{name}: --trace-start {options.start:g}s and --trace-duration leave no request: the "
            f"trace has {len(times):,} requests from 0 to {times[-1]:.1f} s"
        )
    return slice(int(first), int(last))


def _describe(rows: TraceRows, times: NDArray[np.float64], source: SourceFile) -> list[str]:
    title = rows.columns.format.title
    unit = f", times in {_UNIT_TITLES[rows.unit]}" if rows.unit in _UNIT_TITLES else ""
    lines = [f"{source.path}: {title}{unit}: {describe_arrivals(times)}"]
    if rows.inputs:
        inputs, outputs = (np.frombuffer(one, np.int32) for one in (rows.inputs, rows.outputs))
        known = outputs[outputs > 0]
        lengths = f"{inputs.mean():,.1f} input tokens on average (maximum {inputs.max():,})"
        if len(known):
            lengths += f", {known.mean():,.1f} output tokens (maximum {known.max():,})"
        lines.append(lengths)
    lines += [f"{line} of {rows.read:,}" for line in describe_notes(rows.skipped)]
    if rows.unsorted:
        lines.append(f"rows out of order, sorted by time: {rows.unsorted:,}")
    return lines + describe_notes(rows.notes)


def _describe_slice(times: NDArray[np.float64], chosen: slice, options: TraceOptions) -> list[str]:
    if not options.start and options.duration is None:
        return []
    part = times[chosen]
    return [f"part from {options.start:g} s: {describe_arrivals(part - part[0])}"]


def describe_arrivals(times: Sequence[float] | NDArray[np.float64]) -> str:
    """Number, duration, mean rate and largest number in one second; `times` ascend from 0."""
    seconds, count = float(times[-1]), len(times)
    rate = f", {_format_rate(count / seconds)} requests/s" if seconds else ""
    _, per_second = np.unique(np.floor(np.asarray(times)), return_counts=True)
    return f"{count:,} requests over {seconds:,.1f} s{rate} (maximum {per_second.max():,} in 1 s)"


def _format_rate(rate: float) -> str:
    return f"{rate:.3g}" if rate < 999.5 else f"{rate:,.0f}"
