"""When requests leave, computed up front from the seed.

Every process computes the whole schedule and takes its share, every N-th departure: nothing has to
be agreed on while the load runs.
"""

import math
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.float64]
Arrivals = Literal["constant", "poisson", "ramp"]


def departures(
    kind: Arrivals, rate: float, *, count: int | None, duration: float | None, seed: int
) -> Offsets:
    """Seconds from the start of each departure, rising.

    `rate` is per second; a ramp goes from a tenth of it to all of it within `duration`. Ends with
    whichever of `count` and `duration` is reached first; at least one has to be given.
    """
    if count is None:
        count = math.ceil(rate * (duration or 0.0) * 1.2 + 10 * math.sqrt(rate) + 100)
    if kind == "poisson":
        rng = np.random.default_rng([seed, 1])
        offsets = np.cumsum(rng.exponential(1 / rate, count))
    elif kind == "ramp":
        offsets = ramp(rate / 10, rate, duration or 1.8 * count / rate, count)
    else:
        offsets = np.arange(count) / rate
    return offsets if duration is None else offsets[offsets < duration]


def ramp(first: float, last: float, duration: float, count: int) -> Offsets:
    """Departures of a rate that rises evenly from `first` to `last`, and stays there.

    The k-th leaves when the integral of the rate reaches k.
    """
    slope = (last - first) / duration
    k = np.arange(count, dtype=np.float64)
    rising = 2 * k / (first + np.sqrt(first**2 + 2 * slope * k))
    reached = (first + last) / 2 * duration
    return np.where(k <= reached, rising, duration + (k - reached) / last)


def share_of(total: int, shard: int, shards: int) -> int:
    """How many of `total` fall to this shard; the shares add up, the first ones take the rest."""
    return total // shards + (shard < total % shards)


def order_of_sides(index: int, sides: int, *, seed: int) -> list[int]:
    """Which server gets the request with this index first, second, and so on.

    Whoever is second may find caches warm. Of each two neighbours one goes either way, and which
    one is drawn: nothing that the requests repeat can fall in with it.
    """
    order = list(range(sides))
    if sides == 1:
        return order
    drawn = Random(f"{seed}/order/{index // 2}").randrange(2)  # noqa: S311
    return order[::-1] if (index + drawn) % 2 else order
