"""Engine supervisors as child processes of the gateway, one per engine.

A child holds one end of a pipe. When the gateway exits, for whatever reason, the pipe closes, and
the child stops its engine and exits.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.settings import Settings
from maxgate.settings_names import to_variable
from maxgate.telemetry.logging import logs_json


@dataclass(frozen=True, slots=True)
class EngineStart:
    """An engine to start: the card it serves and its URL."""

    card: ModelCard
    url: str


def select_engines(settings: Settings, cards: Sequence[ModelCard]) -> list[EngineStart]:
    """Return the engines that the gateway starts.

    Cards with `load: on_demand` are started later. The others in `settings.cards` are paired with
    the URLs in `settings.engines`, in order; further URLs belong to engines that are started
    elsewhere. If no cards are set, if there is only one URL, or if `engine.card` is set, one engine
    is started, at the first URL.

    Raises ConfigurationError if two engines would share a metrics port, or if a card does not say
    how MAX is started.
    """
    if settings.engine.mode == "none":
        return []
    urls = [engine.public_url for engine in settings.engines]
    if settings.engine.card is None:
        cards = [card for card in cards if card.load == "always"]
        if not cards:
            return []
    if settings.engine.card is not None or not settings.cards or len(urls) == 1:
        cards = [find_card(settings.engine.card, cards)]
    starts = [EngineStart(*pair) for pair in zip(cards, urls, strict=False)]
    for start in starts:
        start.card.require_max()
    if len(starts) > 1 and settings.engine.metrics_port:
        raise ConfigurationError(
            "setting engine.metrics_port: it applies to one engine, but "
            f"{len(starts)} are started; leave it out, and each uses its port plus one"
        )
    return starts


def find_card(name: str | None, cards: Sequence[ModelCard]) -> ModelCard:
    """Return the card with this name; for None, the first chat card, or else the first card.

    Raises ConfigurationError if no card has the name.
    """
    for card in cards:
        if name in card.names or (name is None and card.task == "chat"):
            return card
    if name is None and cards:
        return cards[0]
    known = ", ".join(card.name for card in cards)
    raise ConfigurationError(f"no model card is named {name}; known cards: {known}")


class EngineChild:
    """Runs `maxgate engine start` for one engine.

    If the engine cannot be started, `failed` is set and `on_failure` is called from a thread.
    With `is_only`, no other engine writes to the same terminal. With `uses_stdout`, the child
    writes its progress to stdout instead of stderr.
    """

    def __init__(
        self,
        mode: str,
        start: EngineStart,
        on_failure: Callable[[], None],
        *,
        is_only: bool = True,
        uses_stdout: bool = False,
    ) -> None:
        self._port = _parse_local_port(start.url)
        self._card = start.card.name
        self._mode = mode
        # Live lines of several engines would overwrite each other; rich writes plain lines then.
        self._terminal = {} if is_only else {"TTY_COMPATIBLE": "0"}
        self._stderr = subprocess.STDOUT if uses_stdout else None
        self._on_failure = on_failure
        self._stopping = False
        self.failed = False

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "maxgate", "engine", "start", self._card),
                *("--kind", self._mode, "--port", str(self._port), "--until-stdin-closes"),
            ],
            stdin=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # only the gateway gets Ctrl-C; it then closes the pipe
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                to_variable("telemetry.log_format"): "json" if logs_json() else "text",
                **self._terminal,
            },
        )
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the engine, and return once it has ended."""
        self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._thread.join()

    def _watch(self) -> None:
        self._process.wait()
        if not self._stopping:
            self.failed = True
            self._on_failure()


def _parse_local_port(url: str) -> int:
    parts = urlsplit(url)
    if parts.hostname not in {"localhost", "127.0.0.1"} or parts.port is None:
        raise ConfigurationError(
            f"an engine can only be started on this machine, but its --engine-url is {url}; "
            "write http://localhost:PORT"
        )
    return parts.port
