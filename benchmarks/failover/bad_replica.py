"""Let one of three engines go bad under load; count what clients and the bad engine get.

    python -m benchmarks.failover.bad_replica [--faults 500,hang,slow] [--requests 5000] [--plain]

Engines are processes of their own. The first 300 requests show what is usual. Then one engine
answers 500 or 503 at once, hangs, is ten times slower with all tokens or with those after the
first, resets or closes connections, or fails and recovers every two seconds. Exits with 1 unless

- at most 0.1 % of the requests fail or have a wrong response,
- the bad engine is found within 2 s if it gives errors, and within three times the usual P99 time
  to first token, at least 1 s, if it hangs or is slow; the gateway looks every 0.2 s,
- it then gets at most 5 requests in any 10 s, those that an engine served while it was up excepted.
"""

import argparse
import asyncio
import sys
from bisect import bisect_left
from dataclasses import dataclass
from typing import cast, get_args

from benchmarks.failover.mock_engine import Fault
from benchmarks.failover.mock_stack import Clients, Mock, run_mocks

FAULTS = [fault for fault in get_args(Fault) if fault != "none"]
USUAL_REQUESTS = 300
TOKENS = 8
MAX_SHARE_FAILED = 0.001
MAX_CALLS = 5
WINDOW = 10.0
ERROR_DETECTION = 2.0
MIN_DEADLINE = 1.0
TICKS = 0.4


@dataclass(frozen=True)
class Result:
    """Failed requests, calls of the bad engine, and the seconds until it was found."""

    fault: Fault
    requests: int
    failed: int
    calls: int
    detection: float
    allowed_detection: float
    most_calls: int
    slowest: float

    @property
    def is_right(self) -> bool:
        """Whether all conditions are met."""
        return (
            self.failed <= MAX_SHARE_FAILED * self.requests
            and self.detection <= self.allowed_detection
            and self.most_calls <= MAX_CALLS
        )

    def __str__(self) -> str:
        return (
            f"{self.fault:11} {self.failed} of {self.requests} failed, found after "
            f"{self.detection:.2f} s (allowed {self.allowed_detection:.2f}), {self.calls} calls of "
            f"the bad engine, later at most {self.most_calls} in 10 s, slowest response "
            f"{self.slowest:.2f} s{'' if self.is_right else '  WRONG'}"
        )


def find_detection(calls: list[float]) -> float:
    """Return the time from the first call to the last one before there are few for good."""
    for at in calls:
        later = calls[bisect_left(calls, at) + 1 :]
        if count_most(later) <= MAX_CALLS:
            return at
    return 0.0


def count_most(calls: list[float]) -> int:
    """Return the largest number of calls in a window of 10 s."""
    return max((bisect_left(calls, at + WINDOW) - n for n, at in enumerate(calls)), default=0)


async def measure(
    url: str, mocks: list[Mock], fault: Fault, requests: int, *, stream: bool, at_once: int
) -> Result:
    """Send requests, the first ones without the fault."""
    usual = Clients(url, tokens=TOKENS, stream=stream)
    await usual.send_all(USUAL_REQUESTS, at_once)
    waits = sorted(usual.tally.first_tokens or usual.tally.seconds)
    usual.close()
    faulty_at = await asyncio.to_thread(mocks[0].fail, fault)
    clients = Clients(url, tokens=TOKENS, stream=stream)
    await clients.send_all(requests, at_once)
    clients.close()
    found = await asyncio.to_thread(mocks[0].list_calls)
    failed = [at for at, served in found if at >= faulty_at and not served]
    calls = [at - failed[0] for at in failed]
    detection = find_detection(calls)
    deadline = max(3 * waits[-1 - len(waits) // 100], MIN_DEADLINE) + TICKS
    return Result(
        fault,
        requests,
        clients.tally.failed,
        len(calls),
        detection,
        deadline if fault in {"hang", "slow", "slow-tokens"} else ERROR_DETECTION,
        count_most([at for at in calls if at > detection]),
        max(clients.tally.seconds),
    )


def main() -> int:
    """Run all faults and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=48)
    parser.add_argument("--first", type=float, default=0.1, help="usual seconds to first token")
    parser.add_argument("--plain", action="store_true", help="do not stream")
    options = parser.parse_args()
    failed = False
    for fault in cast("list[Fault]", options.faults.split(",")):
        with run_mocks(3, options.first, options.first / 10) as (url, mocks):
            run = measure(
                *(url, mocks, fault, options.requests),
                stream=not options.plain,
                at_once=options.at_once,
            )
            result = asyncio.run(run)
        print(result, flush=True)
        failed = failed or not result.is_right
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
