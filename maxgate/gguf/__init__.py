"""Reading GGUF model files, and converting them for MAX and `tokenizers`.

The format is specified in ggml's `docs/gguf.md`. The package `gguf` parses and dequantizes.
"""
