"""Processors, memory, disk, GPUs and containers."""

from rich.table import Table

from maxgate.tools.monitor.panels.cells import bar_of
from maxgate.tools.monitor.quantities import show, show_bytes
from maxgate.tools.monitor.watch import View


def machine(view: View, width: int) -> Table:
    """Processor, memory and disk of gateway, machine, GPUs and containers."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    size = max(width - 42, 6)
    for title, name, detail in _shares(view):
        share = view.numbers.get(name)
        if share is not None:
            table.add_row(title, bar_of(share, size), f"{show(name, share)}{detail}")
    for gpu in view.snapshot.gpus:
        slowed = f", slowed by {', '.join(gpu.slowed_by)}" if gpu.slowed_by else ""
        watts = "" if gpu.power_watts is None else f" {gpu.power_watts:.0f} W"
        detail = f"{gpu.utilisation:.0%}{watts}{slowed}"
        table.add_row(
            f"GPU {gpu.index} {gpu.name}", bar_of(gpu.utilisation, size, full_is_bad=False), detail
        )
        memory = gpu.memory_used / gpu.memory_total
        table.add_row("  memory", bar_of(memory, size), show_bytes(gpu.memory_used))
    for container in view.snapshot.containers:
        share = container.memory_used / container.memory_limit if container.memory_limit else 0.0
        detail = f"{container.status} {show_bytes(container.memory_used)}"
        table.add_row(f"container {container.name}", bar_of(share, size), detail)
    return table


def _shares(view: View) -> list[tuple[str, str, str]]:
    gateway, host = view.snapshot.gateway, view.snapshot.host
    memory = gateway.resident_bytes if gateway else None
    workers = gateway.workers if gateway else 0
    per = f" x {workers}, {show_bytes(memory)}" if memory is not None else ""
    return [
        ("gateway CPU/worker", "gateway.cpu_per_worker", per),
        ("this machine CPU", "host.cpu", f" of {host.cores}" if host else ""),
        ("  memory", "host.memory", f" of {show_bytes(host.memory_total)}" if host else ""),
        ("  disk", "host.disk", f" of {show_bytes(host.disk_total)}" if host else ""),
    ]
