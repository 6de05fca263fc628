"""Identifiers in OpenAI's format: a prefix for the type, then random characters.

They must be unique but not secret, since they grant no access. They therefore come from Python's
default generator, which needs no system call. Ids of stored objects must use `secrets`.
"""

from random import getrandbits


def chat_completion_id() -> str:
    """Return `chatcmpl-` and 24 random hexadecimal digits."""
    return f"chatcmpl-{getrandbits(96):024x}"


def completion_id() -> str:
    """Return `cmpl-` and 24 random hexadecimal digits."""
    return f"cmpl-{getrandbits(96):024x}"


def moderation_id() -> str:
    """Return `modr-` and 24 random hexadecimal digits."""
    return f"modr-{getrandbits(96):024x}"


def tool_call_id() -> str:
    """Return `call_` and 24 random hexadecimal digits."""
    return f"call_{getrandbits(96):024x}"


def request_id() -> str:
    """Return `req_` and 24 random hexadecimal digits, for `X-Request-ID` and logs."""
    return f"req_{getrandbits(96):024x}"
