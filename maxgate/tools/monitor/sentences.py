"""Alerts and causes in words, for every way of showing them."""

from collections.abc import Iterator

from maxgate.tools.monitor.evidence import Cause
from maxgate.tools.monitor.quantities import show
from maxgate.tools.monitor.rules import Alert
from maxgate.tools.monitor.watch import View


def say_alert(alert: Alert, elapsed: float) -> str:
    """As in `requests fail: gateway.error_share 12 % (above 0.1 %) for 30 s`."""
    rule = alert.rule
    bound = rule.above if rule.above is not None else rule.below
    side = "above" if rule.above is not None else "below"
    text = f"{rule.text}: " if rule.text else ""
    value = f"{rule.number} {show(rule.number, alert.value)}"
    limit = f"{side} {show(rule.number, bound or 0.0)}"
    return f"{text}{value} ({limit}) for {elapsed - alert.since:.0f} s"


def say_evidence(cause: Cause) -> str:
    """The numbers that a cause is concluded from."""
    return "; ".join(map(str, cause.evidence))


def say_diagnosis(view: View) -> Iterator[str]:
    """What is slower than usual, why, and what can be done."""
    diagnosis = view.diagnosis
    if diagnosis.slower:
        yield "Slower than usual: " + "; ".join(map(str, diagnosis.slower))
    if not diagnosis.causes:
        yield "The numbers name no cause." if diagnosis.slower else "Nothing is wrong."
        return
    for index, cause in enumerate(diagnosis.causes):
        yield f"{'Cause' if index == 0 else 'Also'}: {cause.name}"
        yield f"  because: {say_evidence(cause)}"
        yield f"  to do:   {cause.advice}"


def say_span(seconds: float) -> str:
    """As in `3 h 12 min`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
