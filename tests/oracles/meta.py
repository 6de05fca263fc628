"""Meta's own Llama 3 code, and its vocabulary in the form shipped with checkpoints."""

from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from maxgate.generation.request import Message

# As in the pre-tokenizer of Llama 3's tokenizer.json, and `pat_str` in Meta's tokenizer.py.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def chat_format() -> Any:
    """Load ChatFormat with its tokenizer from the package llama-models."""
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer as MetaTokenizer

    return ChatFormat(MetaTokenizer.get_instance())


def prompt_ids(messages: list[Message]) -> list[int]:
    """Encode the messages with Meta's code."""
    from llama_models.datatypes import RawMessage, RawTextItem, StopReason

    raw = [
        RawMessage(
            role=message.role,
            content=[RawTextItem(text=part) for part in message.parts],
            **({"stop_reason": StopReason.end_of_turn} if message.role == "assistant" else {}),
        )
        for message in messages
    ]
    ids: list[int] = chat_format().encode_dialog_prompt(raw).tokens
    return ids


def special_tokens() -> list[str]:
    """List all 256 special tokens, in the order of their ids."""
    special: dict[str, int] = chat_format().tokenizer.special_tokens
    return sorted(special, key=special.__getitem__)


@cache
def byte_letters() -> dict[int, str]:
    """Map each byte to its printable letter in byte-level vocabularies (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    return letters | {byte: chr(256 + number) for number, byte in enumerate(hidden)}


@cache
def vocabulary_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the tokens with their ids, and all merges of two tokens, by rank."""
    letters = byte_letters()
    ranks = {
        "".join(letters[byte] for byte in token): rank
        for token, rank in chat_format().tokenizer.model._mergeable_ranks.items()
    }
    merges = sorted(
        (rank, token[:cut], token[cut:])
        for token, rank in ranks.items()
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    )
    return ranks, [(left, right) for _, left, right in merges]


@cache
def llama3_tokenizer_json() -> str:
    """Write a tokenizer.json of Llama 3."""
    vocabulary, merges = vocabulary_and_merges()
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special_tokens()])
    return str(tokenizer.to_str())
