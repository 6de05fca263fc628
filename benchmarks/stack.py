"""Run the gateway and the real MAX on free ports for the time of a measurement."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.fakes.processes import free_port

ROOT = Path(__file__).parent.parent
CARD = ROOT / "models" / "smollm2-135m-instruct.yaml"
MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Stack:
    """URLs of the gateway, MAX and MAX's metrics, and the process id of the gateway's worker."""

    gateway_url: str
    engine_url: str
    metrics_url: str
    pid: int


def find_free_port() -> int:
    """Return a port without a listener, which the system gives to no connection meanwhile."""
    return free_port()


def get_json(url: str) -> Any:
    """Fetch JSON with any status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def read_counter(gateway: str, name: str) -> int:
    """Return the sum of all samples of a counter of the gateway."""
    request = urllib.request.Request(f"{gateway}/metrics", headers={"accept": "text/plain"})
    with urllib.request.urlopen(request, timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))


def wait_for(url: str, *, timeout: float, process: "subprocess.Popen[bytes]") -> float:
    """Wait until the URL responds with 200; returns the seconds that it took."""
    began, pause = time.perf_counter(), threading.Event()
    while time.perf_counter() - began < timeout:
        if process.poll() is not None:
            raise SystemExit("the gateway exited during startup")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return time.perf_counter() - began
        except OSError:
            pause.wait(0.005)
    raise SystemExit(f"{url} did not respond with 200 within {timeout:g} s")


def find_worker(parent: int) -> int:
    """Return the process id of the gateway's only worker."""
    [worker] = [
        child.pid
        for child in psutil.Process(parent).children()
        if any("spawn_main" in argument for argument in child.cmdline())
    ]
    return worker


@contextmanager
def run_gateway(*flags: str, cpu: int | None = None) -> Iterator[tuple[str, Any]]:
    """Run `python api_server.py` with these flags; yields its URL and process."""
    port = find_free_port()
    pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
    process = subprocess.Popen(
        [*pin, sys.executable, "api_server.py", "--port", str(port), *flags],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def run_stack(*extra_flags: str) -> Iterator[Stack]:
    """Run the gateway with extra flags and MAX; yields when both are ready."""
    engine_port = find_free_port()
    engine_url = f"http://localhost:{engine_port}"
    flags = ("--engine", "local", "--engine-url", engine_url, "--card", str(CARD))
    with run_gateway(*flags, *extra_flags) as (url, process):
        print("starting MAX ...", file=sys.stderr)
        wait_for(url + "/health/ready", timeout=600, process=process)
        yield Stack(
            url,
            f"http://127.0.0.1:{engine_port}",
            f"http://127.0.0.1:{engine_port + 1}/metrics",
            find_worker(process.pid),
        )
