"""Restart engines one after the other under load, as an operator does; no request may fail.

    python -m benchmarks.failover.engine_restarts [--requests 30000] [--clients 24]

Three engines. Each in turn is drained by the admin API, ended with SIGTERM once it has no requests,
started again, and gets requests again once the gateway has found it healthy. Half of the requests
stream. Restarts go on until all requests have been sent, and each engine is restarted at least
once. Exits with 1 unless every request has the right text, end and usage, or if a drained engine
gets a request.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
import urllib.request
from typing import Any

from benchmarks.failover.mock_stack import Clients, Mock, run_mocks
from benchmarks.stack import get_json

TOKENS = 8
POLL_SECONDS = 0.05


class Restarts:
    """Restarts engines by the admin API of the gateway at `url`, until `stop` is called.

    `count` are the restarts that have ended, `misrouted` the requests to drained engines.
    """

    def __init__(self, url: str, mocks: list[Mock]) -> None:
        self._admin, self._mocks = f"{url}/admin/engines", mocks
        self._pause, self._is_over = threading.Event(), False
        self.count = self.misrouted = 0

    def run(self) -> None:
        """Restart one engine after the other, each at least once."""
        while self.count < len(self._mocks) or not self._is_over:
            self._restart(self._mocks[self.count % len(self._mocks)])
            self.count += 1

    def stop(self) -> None:
        """End after the current restart, once each engine has been restarted."""
        self._is_over = True

    def _restart(self, mock: Mock) -> None:
        self._set_draining(mock, draining=True)
        while self._find(mock)["in_flight"]:
            self._pause.wait(POLL_SECONDS)
        before = len(mock.list_calls())
        self._pause.wait(POLL_SECONDS)
        self.misrouted += len(mock.list_calls()) - before
        assert mock.process is not None
        mock.process.terminate()
        mock.process.wait()
        mock.start()
        while self._find(mock)["state"] != "healthy":
            self._pause.wait(POLL_SECONDS)
        self._set_draining(mock, draining=False)

    def _find(self, mock: Mock) -> Any:
        [found] = [one for one in get_json(self._admin)["data"] if one["url"] == mock.url]
        return found

    def _set_draining(self, mock: Mock, *, draining: bool) -> None:
        request = urllib.request.Request(
            f"{self._admin}/{self._find(mock)['id']}",
            data=json.dumps({"draining": draining}).encode(),
            headers={"content-type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=30).close()


async def measure(url: str, mocks: list[Mock], requests: int, at_once: int) -> bool:
    """Send at least so many requests while engines are restarted; returns whether all is right."""
    kinds = [Clients(url, tokens=TOKENS, stream=stream) for stream in (True, False)]
    restarts, sent = Restarts(url, mocks), 0
    running = asyncio.create_task(asyncio.to_thread(restarts.run))

    async def send_some() -> None:
        nonlocal sent
        while sent < requests or not running.done():
            sent += 1
            if sent == requests:
                restarts.stop()
            await kinds[sent % 2].send()

    began = time.perf_counter()
    await asyncio.gather(*(send_some() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    await running
    outcomes = kinds[0].tally.outcomes + kinds[1].tally.outcomes
    for clients in kinds:
        clients.close()
    print(
        f"{outcomes.total()} requests in {seconds:.0f} s, {restarts.count} restarts of engines: "
        f"{dict(outcomes)}, {restarts.misrouted} requests at drained engines, "
        f"longest {max(kinds[0].tally.seconds + kinds[1].tally.seconds):.2f} s"
    )
    return outcomes["ok"] == outcomes.total() and not restarts.misrouted


def main() -> int:
    """Run everything and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--clients", type=int, default=24)
    options = parser.parse_args()
    with run_mocks(3, 0.03, 0.005) as (url, mocks):
        return 0 if asyncio.run(measure(url, mocks, options.requests, options.clients)) else 1


if __name__ == "__main__":
    sys.exit(main())
