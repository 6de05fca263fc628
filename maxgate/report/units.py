"""Values with their units, as people read them."""

from maxgate.results.distribution import Interval

NOT_KNOWN = "-"


def show(value: float | None, unit: str) -> str:
    """As in `412 ms`, `1.23 s`, `0.12 %`, `31.2/s`; `-` where it is not known."""
    if value is None:
        return NOT_KNOWN
    match unit:
        case "s":
            return _seconds(value)
        case "share":
            return f"{value * 100:.3g} %"
        case "requests/s" | "1/s" | "/s":
            return f"{value:.3g}/s" if abs(value) < 1000 else f"{value:,.0f}/s"
        case _:
            return f"{value:,.4g} {unit}".strip()


def _seconds(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:.0f} s"
    if size >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.{0 if size >= 0.1 else 1 if size >= 0.001 else 3}f} ms"


def show_interval(interval: Interval | None, unit: str) -> str:
    """As in `[390 ms, 420 ms]`; empty where there is none."""
    if interval is None:
        return ""
    return f"[{show(interval.low, unit)}, {show(interval.high, unit)}]"


def show_percent(share: float | None) -> str:
    """A change with its sign: `+12.3 %`."""
    return NOT_KNOWN if share is None else f"{share * 100:+.1f} %"
