"""Prompts: messages and inputs to token ids, stop strings, chat formats, tokenizers."""
