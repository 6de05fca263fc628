"""Whether it was the client that could do no more."""

import numpy as np

from maxgate.tools.results.level import Client
from maxgate.tools.results.records import Records
from maxgate.tools.results.statistics import percentile

_BUSY = 0.9  # of one core
_LATE = 0.01  # seconds


def client_of(
    records: Records, cpu: float | None, lag: float | None, *, scheduled: bool, rate: float | None
) -> Client:
    """The verdict and its reason, as a sentence."""
    late = records["sent"] - records["scheduled"]
    late_p99 = percentile(np.sort(late[~np.isnan(late)]), 99)
    reason = None
    if cpu is not None and cpu > _BUSY:
        reason = f"a process of the load used {cpu:.0%} of its core; use --processes"
    elif scheduled and late_p99 is not None and late_p99 > max(_LATE, 0.1 / (rate or 10)):
        reason = f"1 % of the requests left more than {late_p99 * 1000:.1f} ms late"
    return Client(
        cpu=cpu, late_p99=late_p99, lag_p99=lag, limited=reason is not None, reason=reason
    )
