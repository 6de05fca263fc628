"""Shortages of the gateway's own process and machine, which say nothing about an engine."""

import errno
import os
import re
import time
from typing import Final

import structlog

from maxgate.errors import OutOfResources

_RESOURCES: Final = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.EADDRNOTAVAIL: "local ports",
    errno.ENOBUFS: "memory",
    errno.ENOMEM: "memory",
}
_FIXES: Final = {
    "file descriptors": "raise the limit: `ulimit -n`, LimitNOFILE= of systemd, --ulimit of docker",
    "local ports": "close other connections to the engine, or raise ip_local_port_range",
    "memory": "give the gateway more memory",
}
# asyncio joins the errors of several addresses into one text.
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_WARNING_INTERVAL: Final = 10.0

_log = structlog.get_logger("net")
_warned_at: dict[str, float] = {}


def find_shortage(error: BaseException) -> OutOfResources | None:
    """Return the shortage that caused the error, if there is one, and log it now and then."""
    for cause in list_causes(error):
        if isinstance(cause, OutOfResources):
            return cause
        resource = "memory" if isinstance(cause, MemoryError) else None
        if isinstance(cause, OSError):
            resource = _find_resource(cause)
        if resource is not None:
            report_shortage(resource)
            return OutOfResources(resource)
    return None


def report_shortage(resource: str) -> None:
    """Log a shortage, at most every ten seconds."""
    now = time.monotonic()
    if now - _warned_at.get(resource, -_WARNING_INTERVAL) >= _WARNING_INTERVAL:
        _warned_at[resource] = now
        _log.warning(f"the gateway is out of {resource} and refuses requests", fix=_FIXES[resource])


def list_causes(error: BaseException) -> list[BaseException]:
    """Return the error, then its causes and the members of groups, each of them once."""
    found = [error]
    for current in found:  # grows
        inner = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        for cause in (current.__cause__, current.__context__, *inner):
            if cause is not None and not any(cause is known for known in found):
                found.append(cause)
    return found


def _find_resource(error: OSError) -> str | None:
    if error.errno is not None:
        if error.errno in _RESOURCES or isinstance(error, ConnectionError | TimeoutError):
            return _RESOURCES.get(error.errno)
        # Without descriptors, the resolver reports an unknown host or a busy device.
        return _RESOURCES.get(_try_descriptor())
    resources = [_RESOURCES.get(int(number)) for number in _ERRNO.findall(str(error))]
    # An engine that refuses the connection at one of its addresses has been reached.
    return resources[0] if resources and None not in resources else None


def _try_descriptor() -> int:
    """Return the error number of opening one more descriptor, 0 if that works."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno or 0
    return 0
