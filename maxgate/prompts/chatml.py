"""ChatML, by token id: SmolLM2, Qwen and many fine-tuned Llamas.

The layout follows the chat template in SmolLM2's own tokenizer_config.json.
"""

from typing import Final

from maxgate.generation.request import Role, TokenIds
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.tokenizer import PromptTokenizer

IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
_ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant", "tool")


class ChatMLFormat(ChatFormat):
    """Turns of `<|im_start|>role`, text, `<|im_end|>`."""

    def __init__(self, tokenizer: PromptTokenizer, default_system: str | None = None) -> None:
        start, end = tokenizer.special_id(IM_START), tokenizer.special_id(IM_END)
        newline = tokenizer.encode("\n")
        headers: dict[Role, TokenIds] = {
            role: TokenIds.join([TokenIds.of([start]), tokenizer.encode(role), newline])
            for role in _ROLES
        }
        super().__init__(
            tokenizer,
            headers=headers,
            end_of_turn=TokenIds.join([TokenIds.of([end]), newline]),
            stop_token_ids=(end,),
            default_system=default_system,
        )
