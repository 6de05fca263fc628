"""Text to token ids that contain no special token, unless a raw prompt asks for them.

Special tokens are trustworthy only if no text can spell them. So all text is encoded with special
tokens disabled, and formats look up the ids of special tokens by name.
"""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError
from maxgate.generation.request import TokenIds
from maxgate.prompts.bpe_cache import CachedBpeEncoder, find_split_pattern
from maxgate.prompts.token_bytes import parse_token_bytes


class PromptTokenizer:
    """A model's tokenizer, for prompts. May be used from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = _mark_added_tokens_special(tokenizer)
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {
            token.content: (id_, token) for id_, token in added.items() if token.content
        }
        # The longest name first, as the tokenizer itself matches.
        names = sorted(self._special, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, names))})")
        split = find_split_pattern(self._tokenizer)
        self._cached = None if split is None else CachedBpeEncoder(split, self._encode_uncached)

    @property
    def vocabulary_size(self) -> int:
        """All token ids are below it."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> TokenIds:
        """Encode the text; the names of special tokens in it are encoded as text."""
        if self._cached is None:
            return TokenIds.of(self._encode_uncached(text))
        return self._cached.encode(text)

    def encode_special(self, text: str) -> TokenIds:
        """Encode the text; the names of special tokens in it become those tokens."""
        if not self._special:
            return self.encode(text)
        # Every second piece is the name of a special token.
        pieces = self._special_pattern.split(text)
        ids = []
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(TokenIds.of([self._special[piece][0]]))
                continue
            if index and self._special[pieces[index - 1]][1].rstrip:
                piece = piece.lstrip()  # noqa: PLW2901
            if index + 1 < len(pieces) and self._special[pieces[index + 1]][1].lstrip:
                piece = piece.rstrip()  # noqa: PLW2901
            ids.append(self.encode(piece))
        return TokenIds.join(ids)

    def _encode_uncached(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Decode the ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token_to_bytes(self, index: int) -> bytes | None:
        """Return the bytes of a token, possibly a part of a character; None if unknown."""
        token = self._tokenizer.id_to_token(index)
        return None if token is None else parse_token_bytes(token)

    def special_id(self, token: str) -> int:
        """Return the id of a special token.

        Raises ConfigurationError if the tokenizer lacks it: the card names the wrong format.
        """
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise ConfigurationError(
                f"The tokenizer has no token {token}: the card's `prompt` does not fit the model."
            )
        return int(index)


def _mark_added_tokens_special(tokenizer: Tokenizer) -> Tokenizer:
    # `encode_special_tokens` ignores added tokens that are not marked special, and some models add
    # control tokens that way.
    added = tokenizer.get_added_tokens_decoder().values()
    if all(token.special for token in added):
        return tokenizer
    description = json.loads(tokenizer.to_str())
    for token in description["added_tokens"]:
        token["special"] = True
    return Tokenizer.from_str(json.dumps(description))


def load_tokenizer(path: Path) -> PromptTokenizer:
    """Read a tokenizer.json, the one in a directory, or the tokenizer in a GGUF file.

    Raises ConfigurationError or ModelFileError if it is missing or damaged.
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
