"""Llama 3's chat format, by token id.

The layout and the special tokens follow `ChatFormat` in Meta's llama-models
(models/llama3/chat_format.py) and the Llama 3.3 prompt format document.
"""

from collections.abc import Mapping
from typing import Final

from maxgate.generation.request import Role, TokenIds
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.tokenizer import PromptTokenizer

BEGIN_OF_TEXT: Final = "<|begin_of_text|>"
START_HEADER: Final = "<|start_header_id|>"
END_HEADER: Final = "<|end_header_id|>"
END_OF_TURN: Final = "<|eot_id|>"
_STOP_TOKENS: Final = ("<|end_of_text|>", "<|eom_id|>", END_OF_TURN)
_CALL_TAG: Final = "<|python_tag|>"
_ROLE_NAMES: Final[Mapping[Role, str]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "ipython",
}


class Llama3Format(ChatFormat):
    """The format of Llama 3, 3.1, 3.2 and 3.3 Instruct."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        special = tokenizer.special_id
        start, end = TokenIds.of([special(START_HEADER)]), TokenIds.of([special(END_HEADER)])
        headers: dict[Role, TokenIds] = {
            role: TokenIds.join([start, tokenizer.encode(name), end, tokenizer.encode("\n\n")])
            for role, name in _ROLE_NAMES.items()
        }
        super().__init__(
            tokenizer,
            headers=headers,
            end_of_turn=TokenIds.of([special(END_OF_TURN)]),
            stop_token_ids=tuple([special(token) for token in _STOP_TOKENS]),
            begin=TokenIds.of([special(BEGIN_OF_TEXT)]),
            call_tag=special(_CALL_TAG),
        )
