"""The turns of one conversation, one after another, on each side."""

from collections.abc import Callable, Sequence

from maxgate.tools.loadtest.client.exchange import Exchange
from maxgate.tools.loadtest.scenarios.requests import RequestSource

Body = Callable[[str | None], bytes]
Send = Callable[[Exchange, Body, Callable[[], None]], None]


class Conversation:
    """Sends a turn when the one before it was answered; a failure ends the conversation's side.

    With two sides every turn goes to one and then to the other, so that they meet the same state of
    the machine.
    """

    def __init__(
        self,
        index: int,
        sides: Sequence[int],
        source: RequestSource,
        send: Send,
        over: Callable[[float], None],
    ) -> None:
        self._index, self._source, self._send, self._over = index, source, send, over
        self._turns = source.conversation(index)
        self._steps = [(turn, side) for turn in range(len(self._turns)) for side in sides]
        self._answers: dict[int, list[str]] = {side: [] for side in sides}
        self._failed: set[int] = set()
        self._first: dict[int, bytes] = {}
        self.warmup = False

    def prepare(self, models: Sequence[str | None]) -> None:
        """Make the first turn's bytes now, so that they need not be made when they are due."""
        for side, model in enumerate(models):
            self._first[side] = self._source.body(
                self._turns[0], self._index, model=model, side=side
            )

    def advance(self, due: float) -> None:
        """Send what comes next, which could leave from `due` on; or say that it is over."""
        while self._steps:
            number, side = self._steps.pop(0)
            if side not in self._failed:
                self._step(number, side, due)
                return
        self._over(due)

    def _step(self, number: int, side: int, due: float) -> None:
        turn, source, answers = self._turns[number], self._source, self._answers[side]
        stream = bool(turn.fields.get("stream", source.stream))
        exchange = Exchange(self._index, turn=number, side=side, stream=stream, scheduled=due)
        exchange.warmup, exchange.keep_text = self.warmup, source.live_answers

        def body(model: str | None) -> bytes:
            if number == 0 and side in self._first:
                return self._first[side]
            return source.body(turn, self._index, model=model, side=side, answers=answers)

        def done() -> None:
            if exchange.error is not None:
                self._failed.add(side)
            answers.append("".join(exchange.answer_text))
            self.advance(exchange.ended)

        self._send(exchange, body, done)
