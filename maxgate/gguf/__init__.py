"""Reading GGUF model files, and converting them for MAX and `tokenizers`.

The format is specified in ggml's `docs/gguf.md`. Headers are parsed here; the package `gguf`
dequantizes.
"""
