"""A gateway with the real MAX behind it on free ports, for as long as a measurement takes."""

import json
import os
import signal
import socket
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

ROOT = Path(__file__).parent.parent
CARD = ROOT / "models" / "smollm2-135m-instruct.yaml"
MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Stack:
    """Where everything is."""

    gateway: str
    engine: str
    engine_metrics: str
    pid: int


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def get_json(url: str) -> Any:
    """What a GET answers, also with a status that is not 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def wait_for(url: str, *, seconds: float, process: "subprocess.Popen[bytes]") -> float:
    """Seconds until the URL answers 200."""
    began, pause = time.perf_counter(), threading.Event()
    while time.perf_counter() - began < seconds:
        if process.poll() is not None:
            raise SystemExit("the gateway has ended; see above")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return time.perf_counter() - began
        except OSError:
            pause.wait(0.005)
    raise SystemExit(f"{url} did not answer within {seconds:g} s")


@contextmanager
def gateway_process(*flags: str, cpu: int | None = None) -> Iterator[tuple[str, Any]]:
    """`python api_server.py` with these flags; its address and its process."""
    port = free_port()
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
def running_stack(*more: str) -> Iterator[Stack]:
    """Gateway, with these flags more, and MAX, ready."""
    engine_port = free_port()
    engine_url = f"http://localhost:{engine_port}"
    flags = ("--engine", "local", "--engine-url", engine_url, "--card", str(CARD))
    with gateway_process(*flags, *more) as (url, process):
        print("starting MAX ...", file=sys.stderr)
        wait_for(url + "/health/ready", seconds=600, process=process)
        yield Stack(
            url,
            f"http://127.0.0.1:{engine_port}",
            f"http://127.0.0.1:{engine_port + 1}/metrics",
            process.pid,
        )
