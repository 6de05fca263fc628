"""Saying that the gateway can be used, and how."""

import sys
import threading
import urllib.request
from typing import Self

_LOOK_EVERY = 0.25


class Announcement:
    """Prints a curl line that works, as soon as it does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._announce, name="announcement", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=2)

    def _announce(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            if self._is_ready():
                print(_text(self._url), file=sys.stderr, flush=True)
                return

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health/ready", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


def _text(url: str) -> str:
    body = '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    return (
        f"\nmaxgate is ready on {url} (Ctrl-C stops it). Try:\n\n"
        f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'\n"
    )
