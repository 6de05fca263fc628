"""Runs a program that gets SIGTERM when its parent process dies.

`python -m maxgate.engine.parent_death PROGRAM ARGS...`. Linux only (prctl, PR_SET_PDEATHSIG);
elsewhere it only runs the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Request the signal, then replace this process with the program."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the request
            return
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # no shell needed


if __name__ == "__main__":
    main()
