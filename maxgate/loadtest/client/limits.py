"""Limits of the client's own machine, so that they are not reported as the server's failures."""

import errno
import resource
from typing import Final

_MAX_FILES: Final = 1_048_576
"""The default maximum of Linux; macOS rejects its own hard limit, which is infinite."""

LOCAL_FAILURES: Final = {
    "client_file_limit": "the load generator reached its limit of open files; raise `ulimit -Hn`, "
    "lower the load, or split it with --processes",
    "client_port_limit": "the load generator ran out of local ports; lower the load, or split it "
    "over several machines with --shard",
}
"""Reason by kind of error."""

_KINDS: Final = {
    errno.EMFILE: "client_file_limit",
    errno.ENFILE: "client_file_limit",
    errno.EADDRNOTAVAIL: "client_port_limit",
}


def raise_file_limit() -> None:
    """Raise the number of files that this process may open to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return  # forbidden here: the soft limit stays


def classify_connect_error(error: OSError) -> str:
    """The kind of a failed connection: `connect`, or a key of LOCAL_FAILURES."""
    return _KINDS.get(error.errno or 0, "connect")


def explain_connect_error(error: OSError) -> str:
    """The reason of a failed connection in words."""
    kind = classify_connect_error(error)
    text = LOCAL_FAILURES.get(kind, error.strerror or str(error) or "connection refused")
    if kind == "client_file_limit":
        text = f"{text} (now {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,})"
    return text
