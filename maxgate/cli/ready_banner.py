"""The message that the gateway is ready, with curl commands to try."""

import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any, Final, Self

import structlog

from maxgate.model_cards.card import Task
from maxgate.telemetry.logging import logs_json

_log = structlog.get_logger("cli")

_POLL_INTERVAL: Final = 0.25
# With these sampling parameters, the small model gives the same short response each time.
EXAMPLES: Final[dict[Task, tuple[str, str]]] = {
    "chat": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "What is the capital of France?"}], '
        '"temperature": 0, "max_tokens": 100}',
    ),
    "embeddings": ("/v1/embeddings", '{"input": "The capital of France is Paris."}'),
    "moderation": ("/v1/moderations", '{"input": "The capital of France is Paris."}'),
}


class ReadyBanner:
    """Prints one working curl command per task, as soon as the engines are healthy.

    If they are not healthy at once, it first prints which engines the gateway waits for, and why.

    Waits for all of `engine_urls`, which are being started, or for any engine without them. In a
    JSON log, each message is a line with the URL. If clients of the gateway need keys, it waits for
    the readiness probe, which is open, and names `configured` engines.
    """

    def __init__(
        self,
        url: str,
        engine_urls: Sequence[str],
        tasks: Sequence[Task],
        *,
        needs_key: bool = False,
        configured: Sequence[str] = (),
    ) -> None:
        self._url = url
        self._needs_key = needs_key
        self._configured = configured
        self._engines = {engine_url.rstrip("/") for engine_url in engine_urls}
        self._tasks = tasks
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ready-banner", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        waiting = False
        while not self._stopped.wait(_POLL_INTERVAL):
            engines = self._list_engines()
            healthy = {engine["url"] for engine in engines if engine["state"] == "healthy"}
            drained = {engine["url"] for engine in engines if engine["state"] == "draining"}
            if healthy and self._engines <= healthy | drained:
                if logs_json():
                    _log.info("gateway is ready", url=self._url)
                else:
                    banner = _format_banner(self._url, self._tasks, needs_key=self._needs_key)
                    print(banner, file=sys.stderr, flush=True)
                return
            if engines and not waiting:
                waiting = True
                missing = self._list_missing(engines)
                if logs_json():
                    _log.info("gateway is waiting for engines", url=self._url, engines=missing)
                else:
                    text = f"maxgate is listening on {self._url}, waiting for {', '.join(missing)}"
                    print(text, file=sys.stderr, flush=True)

    def _list_engines(self) -> list[dict[str, Any]]:
        path = "/health/ready" if self._needs_key else "/health"
        try:
            try:
                response = urllib.request.urlopen(f"{self._url}{path}", timeout=2)  # noqa: S310
            except urllib.error.HTTPError as error:  # 503 while no engine is healthy
                response = error
            with response:
                if self._needs_key:
                    return self._describe_probe(json.load(response)["status"])
                engines: list[dict[str, Any]] = json.load(response)["engines"]
            _check_states(engines)
        except (OSError, ValueError, LookupError, TypeError, HTTPException):
            return []  # another server may listen on another address of this port
        return engines

    def _describe_probe(self, status: str) -> list[dict[str, Any]]:
        state = "healthy" if status == "ok" else "not ready"
        urls = self._engines or self._configured
        return [{"url": url, "state": state, "error": None} for url in urls]

    def _list_missing(self, engines: Sequence[dict[str, Any]]) -> list[str]:
        return [
            f"{url} ({'starting' if url in self._engines else engine['error'] or engine['state']})"
            for engine in engines
            if (url := engine["url"]) and engine["state"] not in {"healthy", "draining"}
        ]


def format_url(host: str, port: int) -> str:
    """Return the URL of a gateway that listens on this address, for clients on this machine."""
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _check_states(engines: Sequence[dict[str, Any]]) -> None:
    """Raise KeyError or TypeError if the response is not that of a gateway."""
    for engine in engines:
        _ = engine["url"], engine["state"], engine["error"]


def format_example(url: str, task: Task, key_header: str = "") -> str:
    """Return a curl command that sends the example of a task to the gateway at `url`."""
    path, body = EXAMPLES[task]
    return f"curl {url}{path} {key_header}-H 'Content-Type: application/json' -d '{body}'"


def _format_banner(url: str, tasks: Sequence[Task], *, needs_key: bool) -> str:
    key = '-H "Authorization: Bearer $KEY" ' if needs_key else ""
    lines = [f"{format_example(url, task, key)}\n" for task in tasks]
    return f"\nmaxgate is ready on {url} (Ctrl-C stops it). Try:\n\n" + "\n".join(lines)
