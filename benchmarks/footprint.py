"""Measure the start time and the idle memory of the gateway.

    python benchmarks/footprint.py [--starts 5]

A server that only lists models stands in for MAX, so that the start of MAX is not included. Start
time is from the start of `python api_server.py` to its first response. By then it has loaded the
tokenizer of the small model. Memory is the sum of the parent process and one worker.
"""

import argparse
import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
from stack import CARD, MODEL, get_json, run_gateway, wait_for
from typing_extensions import override


class ModelList(BaseHTTPRequestHandler):
    """Responds to every GET with a list of one model."""

    def do_GET(self) -> None:  # the name is prescribed by http.server
        """Send the list."""
        body = json.dumps({"data": [{"id": MODEL, "created": 1, "max_model_len": 8192}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_model_list() -> Iterator[str]:
    """Run the server; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelList)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=5, help="number of starts (default: 5)")
    arguments = parser.parse_args()
    seconds, megabytes = [], []
    with serve_model_list() as engine_url:
        for _ in range(arguments.starts):
            flags = ("--engine-url", engine_url, "--card", str(CARD))
            with run_gateway(*flags) as (url, process):
                seconds.append(wait_for(url + "/health/live", timeout=30, process=process))
                assert get_json(url + "/health")["status"] == "healthy"
                parent = psutil.Process(process.pid)
                processes = [parent, *parent.children()]
                megabytes.append(sum(one.memory_info().rss for one in processes) / 2**20)
    print(f"{arguments.starts} starts:        median {statistics.median(seconds):.2f} s, "
          f"maximum {max(seconds):.2f} s to the first response")  # fmt: skip
    print(f"resident when idle: median {statistics.median(megabytes):.0f} MiB, "
          f"maximum {max(megabytes):.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
