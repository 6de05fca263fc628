"""The message that the gateway is ready, with curl commands to try."""

import json
import sys
import threading
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Final, Self

import structlog

from maxgate.model_cards.card import Task
from maxgate.telemetry.logging import logs_json

_log = structlog.get_logger()

_POLL_INTERVAL: Final = 0.25
_EXAMPLES: Final[dict[Task, tuple[str, str]]] = {
    "chat": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}',
    ),
    "embeddings": ("/v1/embeddings", '{"input": "The capital of France is Paris."}'),
}


class ReadyBanner:
    """Prints one working curl command per task, as soon as the engines are healthy.

    Waits for all of `engine_urls`, or for any engine if the list is empty. In a JSON log, the
    message is a line with the URL.
    """

    def __init__(self, url: str, engine_urls: Sequence[str], tasks: Sequence[Task]) -> None:
        self._url = url
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
        while not self._stopped.wait(_POLL_INTERVAL):
            healthy = self._list_healthy_engines()
            if healthy and self._engines <= healthy:
                if logs_json():
                    _log.info("gateway is ready", url=self._url)
                else:
                    print(_format_banner(self._url, self._tasks), file=sys.stderr, flush=True)
                return

    def _list_healthy_engines(self) -> set[str]:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=2) as response:  # noqa: S310
                engines = json.load(response)["engines"]
            return {engine["url"] for engine in engines if engine["state"] == "healthy"}
        except (OSError, ValueError, LookupError, TypeError, HTTPException):
            return set()  # another server may listen on another address of this port


def _format_banner(url: str, tasks: Sequence[Task]) -> str:
    lines = [
        f"curl {url}{path} -H 'Content-Type: application/json' -d '{body}'\n"
        for path, body in (_EXAMPLES[task] for task in tasks)
    ]
    return f"\nmaxgate is ready on {url} (Ctrl-C stops it). Try:\n\n" + "\n".join(lines)
