"""Text to token ids in which no special token can appear.

A special token is worth something only because no text can spell it. So all text is encoded with
special tokens switched off, and their ids are looked up by name where a format needs them.
"""

import json
import math
from pathlib import Path

from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError
from maxgate.generation.request import TokenIds
from maxgate.prompts.bpe_cache import CachedBpeEncoder, split_of

# Llama 3 averages 3.6 to 4.4 characters per token over English prose and code.
_CHARACTERS_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Roughly how many tokens a text takes, for models whose tokenizer is not here."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


class PromptTokenizer:
    """A model's tokenizer, for prompts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = _with_every_added_token_special(tokenizer)
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        split = split_of(self._tokenizer)
        self._words = None if split is None else CachedBpeEncoder(split, self._whole)

    @property
    def vocabulary_size(self) -> int:
        """Ids run from 0 to this, exclusive."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> TokenIds:
        """The ids of the text; what looks like a special token in it is encoded as text."""
        return TokenIds.of(self._whole(text)) if self._words is None else self._words.encode(text)

    def _whole(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """The text of the ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def special_id(self, token: str) -> int:
        """The id of a special token.

        Raises ConfigurationError where the tokenizer lacks it: the card names the wrong format.
        """
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise ConfigurationError(
                f"The tokenizer has no token {token}; the card's `prompt` does not fit the model."
            )
        return int(index)


def _with_every_added_token_special(tokenizer: Tokenizer) -> Tokenizer:
    # `encode_special_tokens` leaves added tokens alone that are not marked special, and some
    # models add control tokens that way.
    added = tokenizer.get_added_tokens_decoder().values()
    if all(token.special for token in added):
        return tokenizer
    description = json.loads(tokenizer.to_str())
    for token in description["added_tokens"]:
        token["special"] = True
    return Tokenizer.from_str(json.dumps(description))


def load_tokenizer(path: Path) -> PromptTokenizer:
    """Read a tokenizer from a directory that holds a tokenizer.json, such a file, or a GGUF file.

    Raises ConfigurationError or ModelFileError where there is none or it is broken.
    """
    if path.suffix == ".gguf":
        from maxgate.gguf.reader import GGUFFile  # noqa: PLC0415  # needs the extra `local`
        from maxgate.gguf.tokenizer import tokenizer_from_gguf  # noqa: PLC0415

        return PromptTokenizer(tokenizer_from_gguf(GGUFFile(path)))
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        return PromptTokenizer(Tokenizer.from_file(str(file)))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigurationError(f"{file} cannot be read as a tokenizer: {error}") from error
