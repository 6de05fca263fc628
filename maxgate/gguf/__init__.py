"""GGUF model files: what they hold, and the same in the forms that MAX and `tokenizers` read.

The format is described in ggml's `docs/gguf.md`. Parsing and dequantising are the package `gguf`'s.
"""
