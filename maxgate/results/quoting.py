"""Quotes values and texts of damaged files in messages of one line."""


def show_value(value: object) -> str:
    """The start of a value as Python writes it, at most 63 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def shorten(text: str, limit: int = 40) -> str:
    """The text unchanged, or quoted and cut if it is too long or not printable."""
    return text if len(text) <= limit and text.isprintable() else repr(text[:limit])
