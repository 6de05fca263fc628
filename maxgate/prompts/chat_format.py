"""What a prompt format is: a fixed table of roles around text that cannot leave its place."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Final, Protocol

from maxgate.generation.request import Message, Role, TokenIds
from maxgate.prompts.tokenizer import PromptTokenizer

_ENTRY_BYTES: Final = 500


class TurnCache:
    """Keeps what was used last, in about `most_bytes` bytes; may be used from any thread."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._turns: OrderedDict[Message, TokenIds] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, message: Message) -> bool:
        return message in self._turns

    def get(self, message: Message) -> TokenIds | None:
        """The ids of a turn, which counts as used now."""
        with self._lock:
            ids = self._turns.get(message)
            if ids is not None:
                self._turns.move_to_end(message)
            return ids

    def keep(self, message: Message, ids: TokenIds) -> None:
        """Remember a turn, and forget those that were not used for longest; not if it fills all."""
        size = _size(ids)
        if size > self._most_bytes:
            return
        with self._lock:
            before = len(self._turns)
            self._turns.setdefault(message, ids)
            if len(self._turns) == before:  # another thread was faster
                return
            self._bytes += size
            while self._bytes > self._most_bytes:
                _, forgotten = self._turns.popitem(last=False)
                self._bytes -= _size(forgotten)


def _size(ids: TokenIds) -> int:
    # Measured with tracemalloc: the objects of an entry, and the text that is its key.
    return _ENTRY_BYTES + len(ids.json) * 3 // 2


_KEPT_BYTES = 8 * 2**20


class ChatFormat(Protocol):
    """Messages to a prompt that the assistant's turn follows.

    `encode` may be called from any thread.
    """

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end the assistant's turn."""
        ...

    @property
    def begin(self) -> TokenIds:
        """What every prompt of the model begins with."""
        ...

    @property
    def call_tag(self) -> int | None:
        """The special token that announces a tool call, if the model has one."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below it."""
        ...

    def encode(self, messages: Sequence[Message]) -> TokenIds:
        """The whole prompt, ready for the engine."""
        ...

    def encode_text(self, text: str) -> TokenIds:
        """Text alone, which no special token can be part of."""
        ...

    def characters_to_encode(self, messages: Sequence[Message]) -> int:
        """How much text `encode` would have to look at that it does not remember."""
        ...


class TurnEncoder:
    """Turns of the shape: header of the role, text, end of turn.

    System prompts and the earlier turns of a chat come again with every request, so the ids of
    recent turns are kept, up to a few megabytes.
    """

    def __init__(
        self, tokenizer: PromptTokenizer, headers: Mapping[Role, TokenIds], end: TokenIds
    ) -> None:
        self._tokenizer = tokenizer
        self._headers = headers
        self._end = end
        self._known = TurnCache(_KEPT_BYTES)

    def encode(self, message: Message) -> TokenIds:
        """The ids of one turn."""
        known = self._known.get(message)
        if known is not None:
            return known
        text = map(self._tokenizer.encode, message.parts)
        encoded = TokenIds.join([self._headers[message.role], *text, self._end])
        self._known.keep(message, encoded)
        return encoded

    def characters_to_encode(self, messages: Sequence[Message]) -> int:
        """The length of the turns that are not known yet."""
        unknown = [m for m in messages if m not in self._known]
        return sum([len(part) for message in unknown for part in message.parts])
