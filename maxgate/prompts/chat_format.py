"""Chat formats: messages to token ids, with special tokens only where the format puts them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Final

from maxgate.generation.request import Message, Role, TokenIds
from maxgate.prompts.tokenizer import PromptTokenizer

_CACHE_BYTES: Final = 8 * 2**20
_ENTRY_BYTES: Final = 500
_NO_IDS: Final = TokenIds(b"", 0)


class ChatFormat:
    """A model's chat format: turns of a role header, text and an end-of-turn token.

    `headers` holds the ids of each role's header, `begin` the ids that every prompt starts with,
    and `stop_token_ids` the tokens that end the assistant's turn. `call_tag` is the special token
    that announces a tool call, if the model has one. Dialogues that do not start with a system
    message get `default_system`, if given.

    System prompts and the earlier turns of a chat come again with every request, so the ids of
    recent turns are cached, up to a few megabytes. Methods may be called from any thread.
    """

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        *,
        headers: Mapping[Role, TokenIds],
        end_of_turn: TokenIds,
        stop_token_ids: tuple[int, ...],
        begin: TokenIds = _NO_IDS,
        call_tag: int | None = None,
        default_system: str | None = None,
    ) -> None:
        self.begin = begin
        self.stop_token_ids = stop_token_ids
        self.call_tag = call_tag
        self.vocabulary_size = tokenizer.vocabulary_size
        self.encode_text = tokenizer.encode
        self.token_to_bytes = tokenizer.token_to_bytes
        self.encode_special = tokenizer.encode_special
        self._headers = headers
        self._end_of_turn = end_of_turn
        self._opening = [begin] if begin.length else []
        self._default_system = (
            None if default_system is None else Message("system", (default_system,))
        )
        self._cache = TurnCache(_CACHE_BYTES)

    def encode(self, messages: Sequence[Message]) -> TokenIds:
        """Encode the dialogue, followed by the header of the assistant's turn."""
        pieces = list(self._opening)
        if self._default_system is not None and not (messages and messages[0].role == "system"):
            pieces.append(self._encode_turn(self._default_system))
        pieces += [self._encode_turn(message) for message in messages]
        pieces.append(self._headers["assistant"])
        return TokenIds(b",".join([p.json for p in pieces]), sum([p.length for p in pieces]))

    def _encode_turn(self, message: Message) -> TokenIds:
        cached = self._cache.get(message)
        if cached is not None:
            return cached
        text = map(self.encode_text, message.parts)
        ids = TokenIds.join([self._headers[message.role], *text, self._end_of_turn])
        self._cache.put(message, ids)
        return ids

    def characters_to_encode(self, messages: Sequence[Message]) -> int:
        """Count the characters of the messages that are not cached."""
        missing = [m for m in messages if m not in self._cache]
        return sum([len(part) for message in missing for part in message.parts])


class TurnCache:
    """Caches recently used turns in about `max_bytes` bytes; may be used from any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._turns: OrderedDict[Message, TokenIds] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, message: Message) -> bool:
        return message in self._turns

    def get(self, message: Message) -> TokenIds | None:
        """Return the ids of a turn and mark it as used."""
        with self._lock:
            ids = self._turns.get(message)
            if ids is not None:
                self._turns.move_to_end(message)
            return ids

    def put(self, message: Message, ids: TokenIds) -> None:
        """Add a turn and evict the least recently used ones; ignore a turn over the whole size."""
        size = _measure(ids)
        if size > self._max_bytes:
            return
        with self._lock:
            before = len(self._turns)
            self._turns.setdefault(message, ids)
            if len(self._turns) == before:  # another thread was faster
                return
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, evicted = self._turns.popitem(last=False)
                self._bytes -= _measure(evicted)


def _measure(ids: TokenIds) -> int:
    # Measured with tracemalloc: the objects of an entry, and the text that is its key.
    return _ENTRY_BYTES + len(ids.json) * 3 // 2
