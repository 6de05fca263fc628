"""How fast the gateway starts and how much memory it takes when idle.

    python benchmarks/footprint.py [--starts 5]

MAX is replaced by a process that only lists its models: the engine's own start does not count. The
time runs from the start of `python api_server.py` to its first answer; the small model's tokenizer
is loaded by then.
"""

import argparse
import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
from stack import CARD, MODEL, gateway_process, get_json, wait_for


class ModelList(BaseHTTPRequestHandler):
    """GET /v1/models, and nothing else."""

    def do_GET(self) -> None:  # http.server's name
        """Answer."""
        body = json.dumps({"data": [{"id": MODEL, "created": 1, "max_model_len": 8192}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def model_list() -> Iterator[str]:
    """Its address while it is up."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelList)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    seconds, megabytes = [], []
    with model_list() as engine:
        for _ in range(arguments.starts):
            flags = ("--engine-url", engine, "--card", str(CARD))
            with gateway_process(*flags) as (url, process):
                seconds.append(wait_for(url + "/health/live", seconds=30, process=process))
                assert get_json(url + "/health")["status"] == "healthy"
                megabytes.append(psutil.Process(process.pid).memory_info().rss / 2**20)
    print(f"{arguments.starts} starts:        median {statistics.median(seconds):.2f} s, "
          f"slowest {max(seconds):.2f} s to the first answer")  # fmt: skip
    print(f"resident when idle: median {statistics.median(megabytes):.0f} MiB, "
          f"most {max(megabytes):.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
