"""The machine that the gateway runs on, as far as the checks need it."""

import os
import resource
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address
from math import ceil
from pathlib import Path
from typing import Final, Protocol

from typing_extensions import override

from maxgate.server.run import is_root

_LISTEN: Final = "0A"
"""State of listening sockets in /proc/net/tcp."""


class Host(Protocol):
    """A machine."""

    def count_cores(self) -> int:
        """Return the number of CPU cores that this process may use."""
        ...

    def read_file_limit(self) -> int:
        """Return the hard limit of open files, to which the gateway raises the soft one."""
        ...

    def measure_free_bytes(self, path: Path) -> int:
        """Return the free bytes of the disk of a path that exists."""
        ...

    def find_file_system(self, path: Path) -> str:
        """Return the type of the file system of an absolute path, such as `ext4`; "" if unknown."""
        ...

    def list_listeners(self) -> Mapping[int, set[str]]:
        """Return the addresses on which programs listen, by TCP port; empty if unknown."""
        ...

    def has_package(self, name: str) -> bool:
        """Whether a Python package is installed."""
        ...

    def is_root(self) -> bool:
        """Whether this user is root."""
        ...

    def now(self) -> float:
        """Return the time in Unix seconds."""
        ...


class SystemHost(Host):
    """The machine of this process."""

    @override
    def count_cores(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return min(cores or 1, _read_cgroup_cores() or 2**16)

    @override
    def read_file_limit(self) -> int:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 2**31 if hard == resource.RLIM_INFINITY else hard

    @override
    def measure_free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free

    @override
    def find_file_system(self, path: Path) -> str:
        found, longest = "", -1
        with suppress(OSError):
            for line in Path("/proc/mounts").read_text().splitlines():
                _, point, kind, *_ = line.split(" ")
                if path.is_relative_to(point) and len(point) >= longest:
                    found, longest = kind, len(point)
        return found

    @override
    def list_listeners(self) -> Mapping[int, set[str]]:
        found: dict[int, set[str]] = {}
        for file in ("/proc/net/tcp", "/proc/net/tcp6"):
            with suppress(OSError):
                for line in Path(file).read_text().splitlines()[1:]:
                    address, _, state = line.split()[1:4]
                    if state == _LISTEN:
                        ip, port = address.split(":")
                        found.setdefault(int(port, 16), set()).add(_parse_address(ip))
        return found

    @override
    def has_package(self, name: str) -> bool:
        try:
            return find_spec(name) is not None
        except ModuleNotFoundError:  # the parent of a dotted name
            return False

    @override
    def is_root(self) -> bool:
        return is_root(os.geteuid())

    @override
    def now(self) -> float:
        return time.time()


def _read_cgroup_cores() -> int | None:
    """Return the CPU cores of this container's limit (cgroup v2), None without one."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(ceil(int(quota) / int(period)), 1)  # "max" is no number
    return None


def _parse_address(text: str) -> str:
    """Parse an address of /proc/net/tcp: 32-bit words in the machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return str(IPv4Address(raw))
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
