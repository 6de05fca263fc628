"""Quotes texts of damaged files in messages of one line."""


def shorten(text: str, limit: int = 40) -> str:
    """The text unchanged, or quoted and cut if it is too long or not printable."""
    return text if len(text) <= limit and text.isprintable() else repr(text[:limit])
