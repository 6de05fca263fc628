"""Rebuilding a `tokenizers.Tokenizer` from a GGUF file."""

from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from maxgate.gguf.pre_tokenizer import IGNORE_MERGES, PRE_TOKENIZERS
from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.vocabulary import Vocabulary, read_vocabulary


def tokenizer_from_gguf(file: GGUFFile, vocabulary: Vocabulary | None = None) -> Tokenizer:
    """Rebuild the tokenizer; `vocabulary` is the file's, if it has been read already.

    Raises ModelFileError if the file has no tokenizer or one of an unsupported kind.
    """
    vocabulary = vocabulary or read_vocabulary(file)
    name = vocabulary.pre_tokenizer
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(vocabulary.tokens)},
            merges=vocabulary.merges,
            ignore_merges=name in IGNORE_MERGES,
        )
    )
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in vocabulary.control_tokens]
    )
    tokenizer.add_tokens(
        [AddedToken(t, special=False, normalized=False) for t in vocabulary.user_defined_tokens]
    )
    _add_post_processor(tokenizer, vocabulary)
    return tokenizer


def _add_post_processor(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    bos = vocabulary.find_token("bos")
    # llama.cpp adds the token unless the file disables it, as SmolLM files do.
    if bos is not None and vocabulary.adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"],
            pair=[bos, "$A", bos, "$B"],
            special_tokens=[(bos, vocabulary.special_ids["bos"])],
        )
