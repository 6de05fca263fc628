"""Run the mock engine and the gateways of a measurement, each on its core."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import yaml

from benchmarks.gateway.gateways import GATEWAYS, MAXGATE, Gateway, StartOptions
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.max_responses import MODEL
from benchmarks.gateway.processes import start_process
from benchmarks.gateway.stack import LOGS, find_free_ports, run_gateway
from benchmarks.stack import CARD

LIMIT = 8
"""Requests at once, where a limit is set by hand."""
BODY = (
    b'{"model":"%b","messages":[{"role":"user","content":"Hello"}],"max_tokens":1}' % MODEL.encode()
)


@contextmanager
def run_engine(core: int, slots: int, token_seconds: float) -> Iterator[StandIn]:
    """Run the mock engine with a fixed batch."""
    (port,) = find_free_ports(1)
    command = [sys.executable, "-m", "benchmarks.admission.batch_engine", str(port)]
    flags = ["--slots", str(slots), "--token-seconds", str(token_seconds)]
    with start_process([*command, *flags], core=core, log=LOGS / "batch-engine.log") as process:
        engine = StandIn(port)
        process.wait_for(engine.url + "/v1/models", 20)
        yield engine


@contextmanager
def run_subject(subject: Gateway, engine: StandIn, core: int) -> Iterator[Target]:
    """Run a gateway until its first response. Raises Unavailable if it does not respond."""
    with run_gateway(subject, engine, BODY, core) as running:
        yield running.target


def start_maxgate(
    options: StartOptions, *flags: str, has_metrics: bool = True, **config: Any
) -> list[str]:
    """Return the command that starts maxgate with these settings, and more flags."""
    file = options.folder / "maxgate.yaml"
    engine = {"url": options.engine_url}
    if has_metrics:
        engine["metrics_url"] = f"{options.engine_url}/metrics"
    file.write_text(yaml.safe_dump({"engines": [engine], **config}))
    return [
        *(sys.executable, "api_server.py", "--port", str(options.port), "--engine", "none"),
        *("--config", str(file), "--card", str(CARD), "--log-format", "json", *flags),
    ]


def _limit_nginx(options: StartOptions) -> list[str]:
    command = _find("nginx").command(options)
    file = options.folder / "nginx.conf"
    zone = "limit_conn_zone $server_port zone=all:1m; limit_conn_status 503;"
    text = file.read_text().replace("  server {\n", f"  {zone}\n  server {{\n", 1)
    file.write_text(text.replace("location / {", f"location / {{ limit_conn all {LIMIT};"))
    return command


def _limit_smg(options: StartOptions) -> list[str]:
    limits = ["--max-concurrent-requests", str(LIMIT), "--queue-size", "0"]
    return [*_find("smg").command(options), *limits]


def _estimate(options: StartOptions) -> list[str]:
    return start_maxgate(options, has_metrics=False, admission={"estimate": True})


def _find(name: str) -> Gateway:
    return next(gateway for gateway in GATEWAYS if gateway.name == name)


SUBJECTS = [
    _find("nginx"),
    replace(_find("nginx"), name="nginx, 8", command=_limit_nginx),
    replace(MAXGATE, command=start_maxgate),
    replace(MAXGATE, name="maxgate, estimate", command=_estimate),
    _find("smg"),
    replace(_find("smg"), name="smg, 8", command=_limit_smg),
    _find("vllm-router"),
    _find("litellm"),
]
"""In the order of the table's rows."""
