"""Identifiers as OpenAI clients know them: a prefix that says what it is, then random text."""

import secrets


def chat_completion_id() -> str:
    """`chatcmpl-` and 24 random characters."""
    return "chatcmpl-" + secrets.token_hex(12)


def request_id() -> str:
    """`req_` and 24 random characters, for `X-Request-ID` and the logs."""
    return "req_" + secrets.token_hex(12)
