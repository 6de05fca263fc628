"""Stop a gateway with SIGTERM under load, again and again, and count requests without a response.

    python -m benchmarks.drain [--rounds 10] [--clients 24] [--workers 2] [--ledger]

Half of the requests stream; connections are kept alive. Every request must get its whole response,
or a 503 with Retry-After and `Connection: close`. With `--ledger`, responses are held until their
lines of usage are on disk. Once the process has ended, the system refuses connections. Exits
with 1 if a request was reset, cut or left without a response.
"""

import argparse
import asyncio
import signal
import time

from benchmarks.restart_clients import COMPLETE, CONNECTION_REFUSED, REFUSED, Client, Results
from benchmarks.rolling_restart import RunningGateway, run_gateway

LOAD_SECONDS = 1.0


async def drain(gateway: RunningGateway, clients: int, seed: int) -> tuple[Results, float]:
    """Stop the gateway under load; returns the results and the seconds that it took."""
    results = Results()

    async def run_client(number: int) -> None:
        client = Client(gateway.port, results, seed + number)
        while await client.send() != CONNECTION_REFUSED:
            pass

    running = [asyncio.create_task(run_client(number)) for number in range(clients)]
    await asyncio.sleep(LOAD_SECONDS)
    began = time.perf_counter()
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(gateway.process.wait)
    seconds = time.perf_counter() - began
    await asyncio.gather(*running)
    return results, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ledger", action="store_true", help="keep a ledger of usage")
    options = parser.parse_args()
    settings = {"USAGE__ENABLED": "true"} if options.ledger else {}
    failed = 0
    for number in range(options.rounds):
        with run_gateway(options.workers, gap_ms=20, **settings) as gateway:
            results, seconds = asyncio.run(drain(gateway, options.clients, number * 1000))
        failed += results.count_failures(COMPLETE, REFUSED, CONNECTION_REFUSED)
        print(
            f"ended in {seconds:.2f} s; outcomes {dict(results.outcomes)}; "
            f"longest request {results.longest:.2f} s",
            flush=True,
        )
    print(f"{failed} requests without a response")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
