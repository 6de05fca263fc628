"""Replicas of the gateway in front of a stand-in for MAX, as processes of their own."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.stack import CARD, ROOT, find_free_port, wait_for
from tests.fakes.nginx_server import NginxServer, start_nginx

START_TIMEOUT = 180
# All clients of a measurement have the address 127.0.0.1; attackers have others.
_EXEMPTION = """\
map $remote_addr $limited {
  127.0.0.1 "";
  default $binary_remote_addr;
}
limit_req_zone $limited"""
_CHANGES = {
    "limit_req_zone $binary_remote_addr": _EXEMPTION,
    "limit_conn_zone $binary_remote_addr": "limit_conn_zone $limited",
}


@dataclass(frozen=True)
class Replicas:
    """The URLs and processes of the gateways, and the URL of their engine."""

    urls: Sequence[str]
    processes: "Sequence[subprocess.Popen[bytes]]"
    engine_url: str

    def set_script(self, tokens: int, gap_ms: int) -> None:
        """Let the engine send this many tokens per response, with this pause before each."""
        script = {"tokens": tokens, "gap_ms": gap_ms, "delay_ms": tokens * gap_ms}
        self._post("/script", json.dumps(script).encode())

    def count_requests(self) -> int:
        """Return how many requests the engine has received."""
        with urllib.request.urlopen(f"{self.engine_url}/counts", timeout=5) as response:
            return int(json.load(response)["requests"])

    def kill_last(self) -> None:
        """Kill the last gateway and its worker with SIGKILL."""
        gateway = psutil.Process(self.processes[-1].pid)
        for process in [*gateway.children(recursive=True), gateway]:
            process.kill()

    def _post(self, path: str, data: bytes) -> None:
        urllib.request.urlopen(self.engine_url + path, data=data, timeout=5).close()


@contextmanager
def run_replicas(count: int) -> Iterator[Replicas]:
    """Run gateways that trust proxies on this machine; yields when all are ready."""
    with ExitStack() as stack:
        ports = [find_free_port() for _ in range(count + 1)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        engine_url = urls.pop()
        engine = stack.enter_context(
            _run("-m", "benchmarks.gateway.stand_in", "--port", str(ports[-1]))
        )
        wait_for(f"{engine_url}/v1/models", timeout=START_TIMEOUT, process=engine)
        processes = []
        for port in ports[:-1]:
            state_dir = stack.enter_context(tempfile.TemporaryDirectory())
            command = ("api_server.py", "--port", str(port), "--engine-url", engine_url)
            gateway = _run(
                *(*command, "--card", str(CARD), "--log-level", "error"),
                MAXGATE_STATE_DIR=state_dir,
                MAXGATE_SERVER__TRUSTED_PROXIES="127.0.0.0/8",
            )
            processes.append(stack.enter_context(gateway))
        for url, process in zip(urls, processes, strict=True):
            wait_for(f"{url}/health/ready", timeout=START_TIMEOUT, process=process)
        yield Replicas(urls, processes, engine_url)


@contextmanager
def run_nginx(replicas: Replicas, *options: tuple[str, str]) -> Iterator[NginxServer]:
    """Run nginx in front of the replicas, with limits for attackers only."""
    with start_nginx(replicas.urls, options=dict(options), changes=_CHANGES) as nginx:
        yield nginx


@contextmanager
def _run(*arguments: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env={**inherited, **environment}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
