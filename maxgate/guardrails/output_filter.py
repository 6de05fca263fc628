"""Filter one choice of a response: its text, its tool calls and its logprobs."""

from collections.abc import Callable, Sequence
from functools import cache, partial

import orjson

from maxgate.generation.chunk import Chunk, TokenLogprob, ToolCallDelta
from maxgate.guardrails.decisions import Decisions
from maxgate.guardrails.input_check import observe
from maxgate.guardrails.placeholders import PLACEHOLDERS, Placeholders
from maxgate.guardrails.request_texts import change_json_text
from maxgate.guardrails.rules import DirectionRules, Rule
from maxgate.guardrails.text_filter import Piece, Search, TextFilter, join_texts


class OutputFilter:
    """Filters the chunks of one choice; those of tool calls come with the last chunk.

    `placeholders` are those of the request, whose values return. With `is_json`, the text is JSON.
    `is_blocked` is set once the choice has ended early: nothing more of it may be sent.
    """

    def __init__(
        self,
        rules: DirectionRules,
        placeholders: Placeholders,
        decisions: Decisions,
        *,
        is_json: bool = False,
    ) -> None:
        self._rules = rules
        self._restored = placeholders
        self._masks = placeholders.fork()
        self._decisions = decisions
        self._observer = observe(rules, decisions) if rules.observing else None
        limits = [
            (one.max_characters, rule) for rule, one in rules.lengths if one.action == "block"
        ]
        self._limit = min(limits, key=lambda limit: limit[0], default=None)
        self._text = self._build_filter(is_json=is_json, limit=self._limit and self._limit[0])
        self._logprobs = _PendingLogprobs(self._is_allowed)
        self._calls: dict[int, list[str]] = {}
        self._characters = 0
        self.is_blocked = False

    def filter(self, chunk: Chunk) -> Chunk:
        """Return the chunk with the text that may be sent; its finish reason ends the choice."""
        is_end = chunk.finish_reason is not None
        if self._observer is not None:
            self._observer.feed(chunk.text, is_end=is_end)
        self._characters += len(chunk.text)
        pieces = self._text.feed(chunk.text, is_end=is_end)
        for delta in chunk.tool_calls:
            self._calls.setdefault(delta.call, [delta.name or ""]).append(delta.arguments)
        self.is_blocked = self._text.is_blocked
        calls = self._finish_calls() if self._calls and is_end and not self.is_blocked else ()
        if is_end or self.is_blocked:
            self._note_length()
        is_changed = self.is_blocked or any(piece.raw != piece.text for piece in pieces)
        return Chunk(
            join_texts(pieces),
            "content_filter" if self.is_blocked else chunk.finish_reason,
            chunk.usage,
            chunk.has_more,
            () if self.is_blocked else calls,
            self._logprobs.release(chunk.logprobs, pieces, is_end=is_end),
            chunk.choice,
            chunk.token_ids,
            () if is_changed else chunk.prompt_logprobs,
        )

    def _note_length(self) -> None:
        if self._text.is_too_long and self._limit is not None:
            self._decisions.note(self._limit[1])
        for rule, settings in self._rules.lengths:
            if settings.action == "log" and self._characters > settings.max_characters:
                self._decisions.note(rule)

    def _finish_calls(self) -> tuple[ToolCallDelta, ...]:
        calls = []
        for number, (name, *pieces) in self._calls.items():
            arguments = change_json_text("".join(pieces), "", self._change)
            # A name cannot be masked: the client looks it up.
            self.is_blocked = self.is_blocked or self._change(name, "") != name
            calls.append(ToolCallDelta(number, name, arguments))
        return tuple(calls)

    def _change(self, text: str, _: str) -> str:
        observe(self._rules, self._decisions).feed(text, is_end=True)
        text_filter = self._build_filter()
        changed = join_texts(text_filter.feed(text, is_end=True))
        self.is_blocked = self.is_blocked or text_filter.is_blocked
        return changed

    def _build_filter(self, *, is_json: bool = False, limit: int | None = None) -> TextFilter:
        searches = [
            Search(rule.detectors, partial(self._replace, rule)) for rule in self._rules.acting
        ]
        restore = self._restore_in_json if is_json else self._restore
        return TextFilter(
            [*searches, Search([PLACEHOLDERS], restore)],
            self._rules.acting_screen,
            max_characters=limit,
        )

    def _replace(self, rule: Rule, label: str, match: str) -> str | None:
        self._decisions.note(rule)
        return self._masks.mask(label, match) if rule.settings.action == "mask" else None

    def _restore(self, _: str, placeholder: str) -> str:
        return self._restored.restore(placeholder)

    def _restore_in_json(self, _: str, placeholder: str) -> str:
        return orjson.dumps(self._restored.restore(placeholder))[1:-1].decode()

    def _is_allowed(self, token: str) -> bool:
        """Whether a token matches no rule by itself."""
        searches = [Search(rule.detectors, lambda *_: None) for rule in self._rules.acting]
        text_filter = TextFilter(searches, self._rules.acting_screen)
        text_filter.feed(token, is_end=True)
        return not text_filter.is_blocked


class _PendingLogprobs:
    """Holds logprobs back until their tokens are sent, and drops those of text that has changed.

    Positions are in bytes of UTF-8, since a token may be a part of a character.
    """

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._is_allowed = cache(is_allowed)
        self._pending: list[TokenLogprob] = []
        self._next = 0
        self._decided = 0
        self._changed: list[tuple[int, int]] = []

    def release(
        self, logprobs: Sequence[TokenLogprob], pieces: Sequence[Piece], *, is_end: bool
    ) -> tuple[TokenLogprob, ...]:
        self._pending += logprobs
        for piece in pieces:
            start, self._decided = self._decided, self._decided + len(piece.raw.encode())
            if piece.raw != piece.text:
                self._changed.append((start, self._decided))
        size = sum([len(token.encoded) for token in self._pending])
        if is_end and self._changed and self._next + size != self._decided:
            self._pending.clear()  # a forced beginning has no tokens: their places are not known
        released: list[TokenLogprob] = []
        for count, token in enumerate(self._pending):
            end = self._next + len(token.encoded)
            if end > self._decided:
                self._pending = self._pending[count:]
                return tuple(released)
            if not any(start < end and self._next < last for start, last in self._changed):
                top = tuple([one for one in token.top if self._is_allowed(one.token)])
                released.append(token._replace(top=top))
            self._next = end
        self._pending = []
        return tuple(released)
