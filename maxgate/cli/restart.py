"""`maxgate restart`: replace the workers of a running gateway."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from maxgate.cli.options import ConfigOption, export_flags
from maxgate.errors import MaxgateError
from maxgate.server.instances import Instance, find_instances
from maxgate.settings import load_settings

_POLL_INTERVAL: Final = 0.1


class RestartFailed(MaxgateError):
    """No gateway was found, or its workers were not replaced."""


def restart(
    port: Annotated[
        int | None, typer.Option(help="Port of the gateway.", show_default="the only one running")
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(help="Process id of `maxgate serve`.", show_default="found in state_dir"),
    ] = None,
    *,
    config: ConfigOption = None,
) -> None:
    """Replace the workers of a running gateway one by one, without losing a request.

    New workers use the installed version and the settings of now. If one does not start, the old
    ones keep running, and the exit code is 1.
    """
    export_flags({"config": config})
    state_dir = load_settings().state_dir
    instances = find_instances(state_dir)
    found = [one for one in instances if pid in {None, one.pid} and port in {None, one.port}]
    if pid is not None and not found:
        _send_signal(pid)
        print(f"sent SIGUSR2 to process {pid}")
        return
    instance = choose_instance(found, state_dir)
    _send_signal(instance.pid)
    after = wait_for_end(instance, lambda: find_instances(state_dir))
    if after.error is not None:
        raise RestartFailed(f"the old workers keep running: {after.error}")
    print(f"replaced the workers of the gateway on port {after.port}: {_list(after)}")


def choose_instance(instances: list[Instance], state_dir: Path) -> Instance:
    """Return the only instance; raises RestartFailed if there is none or several."""
    if not instances:
        raise RestartFailed(
            f"no running gateway is known in {state_dir}; name its process id with --pid"
        )
    if len(instances) > 1:
        ports = ", ".join(str(instance.port) for instance in instances)
        raise RestartFailed(f"gateways run on the ports {ports}; choose one with --port")
    return instances[0]


def wait_for_end(before: Instance, list_instances: Callable[[], list[Instance]]) -> Instance:
    """Wait until the instance has ended one more restart; raises RestartFailed if it exits."""
    missing, pause = 0, threading.Event()
    while missing < 10:  # its file may be read while it is written
        pause.wait(_POLL_INTERVAL)
        instance = next((one for one in list_instances() if one.pid == before.pid), None)
        missing = missing + 1 if instance is None else 0
        if instance is not None and instance.restarts > before.restarts:
            return instance
    raise RestartFailed(f"the gateway with process id {before.pid} has exited")


def _send_signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGUSR2)
    except OSError as error:
        raise RestartFailed(f"cannot signal process {pid}: {error.strerror}") from error


def _list(instance: Instance) -> str:
    return ", ".join(f"process {pid}" for pid in instance.workers)
