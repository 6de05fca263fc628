"""The engines' keepers as child processes of the gateway, one for each engine.

A keeper holds one end of a pipe; when the gateway dies in whatever way, the pipe closes, and the
keeper stops its engine and ends.
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


@dataclass(frozen=True, slots=True)
class EngineStart:
    """An engine to be started: what it serves, and where it is to answer."""

    card: ModelCard
    url: str


def engines_to_start(settings: Settings, cards: Sequence[ModelCard]) -> list[EngineStart]:
    """Which engines the gateway starts, and where.

    The cards given with --card, in order, each at the engine URL of the same place; URLs beyond
    them are of engines that somebody else runs. Without any given, with a single URL, or with
    `max.card`, it is one engine, at the first URL.

    Raises ConfigurationError where two engines would share a port for their metrics.
    """
    if settings.engine == "none":
        return []
    chosen = cards
    if settings.max.card is not None or not settings.cards or len(settings.engine_urls) == 1:
        chosen = [card_called(settings.max.card, cards)]
    starts = [EngineStart(*pair) for pair in zip(chosen, settings.engine_urls, strict=False)]
    if len(starts) > 1 and settings.max.metrics_port:
        raise ConfigurationError(
            "max.metrics_port is for one engine; each of several has them at its port plus one"
        )
    return starts


def card_called(name: str | None, cards: Sequence[ModelCard]) -> ModelCard:
    """The card of this name, or the first one for chat for None.

    Raises ConfigurationError where there is none.
    """
    for card in cards:
        if name in card.names or (name is None and card.task == "chat"):
            return card
    if name is None and cards:
        return cards[0]
    known = ", ".join(card.name for card in cards)
    raise ConfigurationError(f"no model card is called {name}; there are: {known}")


class EngineChild:
    """Runs `maxgate engine start` for one engine.

    `on_failure` is called from a thread when the engine cannot be started; `failed` says so later.
    `alone` says that no other engine is being started on the same terminal.
    """

    def __init__(
        self, kind: str, start: EngineStart, on_failure: Callable[[], None], *, alone: bool = True
    ) -> None:
        self._port = _local_port(start.url)
        self._card = start.card.name
        self._kind = kind
        # A line that changes, of each of them, would be a mess: rich writes whole lines then.
        self._terminal = {} if alone else {"TTY_COMPATIBLE": "0"}
        self._on_failure = on_failure
        self._stopping = False
        self.failed = False

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "maxgate", "engine", "start", self._card),
                *("--kind", self._kind, "--port", str(self._port), "--until-stdin-closes"),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the gateway, which then closes the pipe
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._terminal},
        )
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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


def _local_port(url: str) -> int:
    parts = urlsplit(url)
    if parts.hostname not in {"localhost", "127.0.0.1"} or parts.port is None:
        raise ConfigurationError(
            f"an engine can only be started on this machine: its --engine-url is {url}, "
            "write http://localhost:PORT"
        )
    return parts.port
