"""ChatML, by token id: SmolLM2, Qwen and many fine-tuned Llamas.

Layout as in the chat template that SmolLM2's own tokenizer_config.json carries.
"""

from collections.abc import Sequence
from typing import Final

from maxgate.generation.request import Message, Role, TokenIds
from maxgate.prompts.chat_format import TurnEncoder
from maxgate.prompts.tokenizer import PromptTokenizer

IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
_ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant", "tool")


class ChatMLFormat:
    """Prompts of `<|im_start|>role`, text, `<|im_end|>` turns.

    `default_system` opens a dialogue that has no system message of its own at its start.
    """

    def __init__(self, tokenizer: PromptTokenizer, default_system: str | None = None) -> None:
        start, end = tokenizer.special_id(IM_START), tokenizer.special_id(IM_END)
        newline = tokenizer.encode("\n")
        end_of_turn = TokenIds.join([TokenIds.of([end]), newline])
        headers = {
            role: TokenIds.join([TokenIds.of([start]), tokenizer.encode(role), newline])
            for role in _ROLES
        }
        self.stop_token_ids = (end,)
        self.begin = TokenIds.of([])
        self.call_tag = None
        self.vocabulary_size = tokenizer.vocabulary_size
        self._tokenizer = tokenizer
        self._turns = TurnEncoder(tokenizer, headers, end=end_of_turn)
        self._open_assistant = headers["assistant"]
        self._default_system = (
            [] if default_system is None else [Message("system", (default_system,))]
        )
        self.characters_to_encode = self._turns.characters_to_encode

    def encode(self, messages: Sequence[Message]) -> TokenIds:
        """The turns, and an assistant header for the model to go on from."""
        opening = [] if messages and messages[0].role == "system" else self._default_system
        turns = map(self._turns.encode, [*opening, *messages])
        return TokenIds.join([*turns, self._open_assistant])

    def encode_text(self, text: str) -> TokenIds:
        """See ChatFormat."""
        return self._tokenizer.encode(text)
