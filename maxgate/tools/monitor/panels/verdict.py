"""How it is: state, alerts, causes, errors."""

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.panels.cells import new_table
from maxgate.tools.monitor.sentences import say_alert, say_evidence, say_span
from maxgate.tools.monitor.watch import View


def diagnosis(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """What is slower, why, and what to do."""
    found, text = view.diagnosis, Text()
    for evidence in found.slower:
        text.append(f"slower: {evidence}\n", style="yellow")
    if not found.causes:
        said = "the numbers name no cause" if found.slower else "nothing is wrong"
        return text.append(said, style="yellow" if found.slower else "green")
    for index, cause in enumerate(found.causes):
        text.append(f"{cause.name}\n", style="bold red" if index == 0 else "yellow")
        text.append(f"{say_evidence(cause)}\n")
        text.append(f"→ {cause.advice}\n", style="italic")
    return text


def errors(view: View, width: int) -> Table | Text:  # noqa: ARG001  # narrow by nature
    """Requests that did not end well, by kind."""
    if not view.endings:
        return Text("none", style="green")
    table = new_table("kind", f"last {view.history.window:.0f} s", "ever")
    for outcome, (recent, ever) in view.endings.items():
        own = outcome in {"client_error", "client_gone"}
        style = "dim" if own or not recent else "bold red"
        table.add_row(outcome, Text(f"{recent:,}", style=style), f"{ever:,}")
    return table


def headline(view: View, width: int) -> Text:  # noqa: ARG001  # one line
    """Who is watched, how it is, and since when."""
    gateway = view.snapshot.gateway
    well = view.away_since is None and view.state == "healthy"
    text = Text.assemble(
        (view.url, "bold"), "  ", (view.state, "bold green" if well else "bold red")
    )
    if gateway is not None:
        workers = f"{gateway.workers} worker{'s' if gateway.workers != 1 else ''}"
        text.append(f"  up {say_span(gateway.uptime)}, {workers}", style="dim")
    return text


def alerts(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """One line per alert; empty without any."""
    lines = [
        Text(
            f" {alert.rule.severity}: {say_alert(alert, view.snapshot.elapsed)}",
            style="bold white on red" if alert.rule.severity == "critical" else "black on yellow",
        )
        for alert in view.alerts
    ]
    return Text("\n").join(lines)
