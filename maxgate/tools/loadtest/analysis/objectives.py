"""Objectives per request, as in `--slo ttft=500ms,tpot=50ms`, and who met them."""

import re
from collections.abc import Mapping

import numpy as np

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.analysis.measures import (
    PER_REQUEST,
    Mask,
    chunk_gaps,
    succeeded,
)
from maxgate.tools.results.records import Records

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_ALIASES = {"e2e": "latency", "e2el": "latency", "itl": "chunk_gap"}
_ALLOWED = ("ttft", "tpot", "latency", "response_ttft", "response_latency", "chunk_gap")


def seconds(text: str, flag: str) -> float:
    """`500ms`, `1.5s`, `2m`, `30` in seconds. Raises ConfigurationError for anything else."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        given = flag + text if flag.endswith("=") else f"{flag} {text}"
        raise ConfigurationError(f"{given}: expected a time such as 500ms, 1.5s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def parse_objectives(text: str) -> dict[str, float]:
    """Seconds by metric. Raises ConfigurationError for what is no objective."""
    found = {}
    for part in filter(None, text.split(",")):
        name, separator, limit = part.partition("=")
        metric = _ALIASES.get(name.strip(), name.strip())
        if not separator or metric not in _ALLOWED:
            raise ConfigurationError(
                f"--slo {part}: expected METRIC=TIME with one of {', '.join(_ALLOWED)}"
            )
        found[metric] = seconds(limit, f"--slo {name.strip()}=")
    return found


def good(records: Records, objectives: Mapping[str, float], *, scheduled: bool) -> Mask:
    """Who succeeded within every objective.

    Where there is a schedule, `ttft` and `latency` are taken from it: a user does not care that the
    client was late. A chunk gap objective is met when no gap is longer.
    """
    met = succeeded(records)
    for metric, limit in objectives.items():
        if metric == "chunk_gap":
            met &= _longest_gap(records) <= limit
            continue
        base = metric.removeprefix("response_")
        name = f"response_{base}" if scheduled and base in {"ttft", "latency"} else base
        value = PER_REQUEST[name](records)
        # What is undefined (one token has no time per token) cannot miss its objective.
        met &= np.isnan(value) | (value <= limit)
    return met


def _longest_gap(records: Records) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    longest = np.zeros(len(records))
    counts = np.maximum(records["chunks"] - 1, 0)
    np.maximum.at(longest, np.repeat(np.arange(len(records)), counts), chunk_gaps(records))
    return longest
