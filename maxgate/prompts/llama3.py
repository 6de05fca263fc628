"""Llama 3's chat format, by token id.

Layout and special tokens follow `ChatFormat` in Meta's llama-models (models/llama3/chat_format.py)
and the Llama 3.3 prompt format document.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from maxgate.generation.request import Message, Role, TokenIds
from maxgate.prompts.chat_format import TurnEncoder
from maxgate.prompts.tokenizer import PromptTokenizer

BEGIN_OF_TEXT: Final = "<|begin_of_text|>"
START_HEADER: Final = "<|start_header_id|>"
END_HEADER: Final = "<|end_header_id|>"
END_OF_TURN: Final = "<|eot_id|>"
_STOP_TOKENS: Final = ("<|end_of_text|>", "<|eom_id|>", END_OF_TURN)
_CALL_TAG: Final = "<|python_tag|>"
_HEADERS: Final[Mapping[Role, str]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "ipython",
}


class Llama3Format:
    """Prompts for Llama 3, 3.1, 3.2 and 3.3 Instruct."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        special = tokenizer.special_id
        start, end = TokenIds.of([special(START_HEADER)]), TokenIds.of([special(END_HEADER)])
        headers = {
            role: TokenIds.join([start, tokenizer.encode(header), end, tokenizer.encode("\n\n")])
            for role, header in _HEADERS.items()
        }
        self.stop_token_ids = tuple(special(token) for token in _STOP_TOKENS)
        self.call_tag = special(_CALL_TAG)
        self.vocabulary_size = tokenizer.vocabulary_size
        self.begin = TokenIds.of([special(BEGIN_OF_TEXT)])
        self._tokenizer = tokenizer
        self._open_assistant = headers["assistant"]
        self._turns = TurnEncoder(tokenizer, headers, end=TokenIds.of([special(END_OF_TURN)]))
        self.characters_to_encode = self._turns.characters_to_encode

    def encode(self, messages: Sequence[Message]) -> TokenIds:
        """One begin-of-text, the turns, and an assistant header for the model to go on from."""
        turns = map(self._turns.encode, messages)
        return TokenIds.join([self.begin, *turns, self._open_assistant])

    def encode_text(self, text: str) -> TokenIds:
        """See ChatFormat."""
        return self._tokenizer.encode(text)


def format_chat_prompt(messages: Sequence[Message]) -> str:
    """The prompt as text, for people to read.

    What is sent to the engine is the ids of `Llama3Format`: in text, nothing tells a special token
    from a user who typed one.
    """
    turns = [
        f"{START_HEADER}{_HEADERS[message.role]}{END_HEADER}\n\n{''.join(message.parts)}{END_OF_TURN}"
        for message in messages
    ]
    return "".join([BEGIN_OF_TEXT, *turns, f"{START_HEADER}assistant{END_HEADER}\n\n"])
