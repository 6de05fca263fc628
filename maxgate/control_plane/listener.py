"""The control socket of one gateway: a Unix socket in `state_dir`."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

_FOLDER: Final = "gateways"
# sun_path of macOS is 104 bytes long, that of Linux 108, with a final zero.
_MAX_PATH: Final = 103

_log = structlog.get_logger("control_plane")


def name_gateway(port: int) -> str:
    """Return the name of the gateway on this port of this host, for files in `state_dir`."""
    return f"{socket.gethostname()}-{port}"


@contextmanager
def control_socket(state_dir: Path, gateway: str) -> Iterator[tuple[socket.socket, Path] | None]:
    """Listen on `state_dir/gateways/<gateway>.sock`, for this user only, and remove it at the end.

    The socket is in a private temporary folder if the path is too long, if the folder is not
    writable, or if another gateway uses the path. Yields None if that is not possible either.
    """
    path = state_dir.expanduser().absolute() / _FOLDER / f"{gateway}.sock"
    folder: str | None = None
    listening: socket.socket | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        listening = _listen(path)
    except OSError as error:
        _log.info("the control socket is not in state_dir", path=str(path), error=str(error))
        with suppress(OSError):
            folder = tempfile.mkdtemp(prefix="maxgate-control-")
            path = Path(folder) / "parent.sock"
            listening = _listen(path)
    if listening is None:
        _log.warning("engines cannot be changed at run time: no control socket")
        yield None
        return
    try:
        with listening:
            yield listening, path
    finally:
        path.unlink(missing_ok=True)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at a path; raises OSError if it cannot be used."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise OSError(f"the path is longer than {_MAX_PATH} bytes")
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # mode 0600 from the start
    try:
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.listen(512)
    listening.setblocking(False)
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket of a gateway that was killed; raises OSError if somebody listens on it."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError("another gateway listens on it")
