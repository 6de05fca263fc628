"""Numbers as the tables show them."""


def milliseconds(seconds: float | None) -> str:
    """Without the unit, which stands in the table's head; `-` where it is not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def plain(value: float | None) -> str:
    """Four digits; `-` where it is not known."""
    return "-" if value is None else f"{value:.4g}"
