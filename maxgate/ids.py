"""Identifiers as OpenAI clients know them: a prefix that says what it is, then random text.

They have to be unique, not secret: nothing can be reached by knowing one. So they come from the
ordinary generator, which the operating system seeds, and not from a system call each.
"""

from random import getrandbits


def chat_completion_id() -> str:
    """`chatcmpl-` and 24 random characters."""
    return f"chatcmpl-{getrandbits(96):024x}"


def completion_id() -> str:
    """`cmpl-` and 24 random characters."""
    return f"cmpl-{getrandbits(96):024x}"


def tool_call_id() -> str:
    """`call_` and 24 random characters."""
    return f"call_{getrandbits(96):024x}"


def request_id() -> str:
    """`req_` and 24 random characters, for `X-Request-ID` and the logs."""
    return f"req_{getrandbits(96):024x}"
