"""The turns that came last, as token ids."""

from collections import OrderedDict
from threading import Lock
from typing import Final

from maxgate.generation.request import Message, TokenIds

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
