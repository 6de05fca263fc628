"""Detect the load from which more load brings no more throughput."""

from collections.abc import Sequence
from typing import Final

from maxgate.results.report import Level, Saturation

_MIN_GAIN: Final = 1.05  # in throughput, for a step that doubles the concurrency
_MIN_SHARE_OF_RATE: Final = 0.95
_MAX_ERROR_RATE: Final = 0.01


def detect_saturation(levels: Sequence[Level]) -> Saturation:
    """The verdict on the steps of a sweep so far; `found` ends the sweep."""
    if not levels:
        return Saturation(found=False, level=None, reason="no step has been run")
    last, previous = levels[-1], levels[-2] if len(levels) > 1 else None
    best = previous.name if previous is not None else None
    error_rate = last.requests.failed / max(1, last.requests.attempted)
    if error_rate > _MAX_ERROR_RATE:
        reason = f"{error_rate:.1%} of the requests failed at {last.name}"
        return Saturation(found=True, level=best, reason=reason)
    if last.client.limited:
        reason = f"the load generator was the bottleneck at {last.name}: {last.client.reason}"
        return Saturation(found=True, level=None, reason=reason)
    throughput = last.throughput.requests
    if last.rate is not None and throughput < _MIN_SHARE_OF_RATE * last.rate:
        reason = f"throughput was {throughput:.1f} of {last.rate:.1f} requests/s"
        return Saturation(found=True, level=best, reason=reason)
    if last.rate is None and previous is not None:
        gain = throughput / max(previous.throughput.requests, 1e-9)
        if gain < _MIN_GAIN:
            reason = f"throughput changed by {gain - 1:+.1%} from {previous.name} to {last.name}"
            return Saturation(found=True, level=previous.name, reason=reason)
    return Saturation(found=False, level=last.name, reason="throughput rose with every step")
