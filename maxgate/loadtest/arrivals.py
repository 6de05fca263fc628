"""Departure times of requests, computed up front from the seed.

Every process computes the whole schedule and takes every N-th departure, so the processes need no
coordination while the load runs.
"""

import math
from array import array
from collections.abc import Sequence
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.float64]
Arrivals = Literal["constant", "poisson", "ramp"]


def plan_departures(
    kind: Arrivals, rate: float, *, count: int | None, duration: float | None, seed: int
) -> Offsets:
    """Seconds from the start to each departure, ascending.

    `rate` is per second; a ramp rises from a tenth of it to all of it within `duration`. The
    schedule ends at `count` or `duration`, whichever comes first; at least one must be given.
    """
    if count is None:
        count = math.ceil(rate * (duration or 0.0) * 1.2 + 10 * math.sqrt(rate) + 100)
    if kind == "poisson":
        rng = np.random.default_rng([seed, 1])
        offsets = np.cumsum(rng.exponential(1 / rate, count))
    elif kind == "ramp":
        offsets = plan_ramp(rate / 10, rate, duration or 1.8 * count / rate, count)
    else:
        offsets = np.arange(count) / rate
    return offsets if duration is None else offsets[offsets < duration]


def plan_ramp(first: float, last: float, duration: float, count: int) -> Offsets:
    """Departures at a rate that rises linearly from `first` to `last`, then stays constant.

    Departure k is the time at which the integral of the rate reaches k.
    """
    slope = (last - first) / duration
    k = np.arange(count, dtype=np.float64)
    rising = 2 * k / (first + np.sqrt(first**2 + 2 * slope * k))
    reached = (first + last) / 2 * duration
    return np.where(k <= reached, rising, duration + (k - reached) / last)


def plan_replay(
    arrivals: Sequence[float],
    *,
    speed: float,
    sides: int,
    count: int | None,
    duration: float | None,
) -> "array[float]":
    """Departures of a recorded workload, one per side, as a compact array.

    It ends after `count` requests or before `duration` seconds at the given speed.
    """
    offsets = np.asarray(arrivals, np.float64)[:count] / speed
    if duration is not None:
        offsets = offsets[offsets < duration]
    return array("d", np.repeat(offsets, sides).tobytes())


def split_evenly(total: int, shard: int, shards: int) -> int:
    """The part of `total` for this shard; the first shards take the remainder."""
    return total // shards + (shard < total % shards)


def choose_side_order(index: int, sides: int, *, seed: int) -> list[int]:
    """The order in which the servers get the request with this index.

    The second server may find warm caches. Each pair of requests uses both orders, in random
    sequence, so order cannot correlate with periodic workloads.
    """
    order = list(range(sides))
    if sides == 1:
        return order
    drawn = Random(f"{seed}/order/{index // 2}").randrange(2)  # noqa: S311
    return order[::-1] if (index + drawn) % 2 else order
