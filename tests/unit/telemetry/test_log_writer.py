"""Log lines are written in order by a thread; a broken log stops nothing else."""

import errno
import io
import os
import threading

import pytest

from maxgate.telemetry.log_writer import LogWriter


class FakeFile(io.RawIOBase):
    """A log file; each write takes the next of `results`, then everything.

    A result is a number of bytes, None for a descriptor that is full, or an error.
    """

    def __init__(self, *results: int | OSError | None) -> None:
        self._results = list(results)
        self.writes: list[bytes] = []

    def write(self, content: "memoryview | bytes") -> int | None:  # type: ignore[override]
        result = self._results.pop(0) if self._results else len(content)
        if isinstance(result, OSError):
            raise result
        if result is not None:
            self.writes.append(bytes(content[:result]))
        return result


def write_all(file: FakeFile, *lines: bytes) -> LogWriter:
    """Write each line with a system call of its own."""
    writer = LogWriter(file)
    for line in lines:
        writer.write(line)
        assert writer.flush(5)
    return writer


def test_lines_are_joined() -> None:
    """Lines that are queued together are written together, in order."""
    file = FakeFile()
    writer = LogWriter(file)
    for number in range(100):
        writer.write(b"%d\n" % number)
    assert writer.flush(5)
    assert b"".join(file.writes) == b"".join(b"%d\n" % number for number in range(100))
    assert len(file.writes) <= 2


def test_partial_writes() -> None:
    """A write that takes only a part is continued."""
    file = FakeFile(1, None, 2)
    writer = write_all(file, b"one\n")
    assert (file.writes, writer.dropped) == ([b"o", b"ne", b"\n"], 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_failed_writes(number: int) -> None:
    """A line that cannot be written is dropped and counted; later ones are tried again."""
    file = FakeFile(OSError(number, "failed"))
    writer = write_all(file, b"one\n", b"two\n")
    assert (file.writes, writer.dropped) == ([b"two\n"], 1)


def test_torn_line() -> None:
    """The line after one that was written in part starts a new line."""
    file = FakeFile(2, OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full"))
    writer = write_all(file, b"one\n", b"two\n", b"three\n")
    assert (file.writes, writer.dropped) == ([b"on", b"\n", b"three\n"], 2)


def test_stalled_reader() -> None:
    """Lines beyond the bound are dropped while the reader stalls; `write` returns at once."""
    reader, descriptor = os.pipe()
    with io.FileIO(descriptor, "w") as file:
        writer = LogWriter(file, max_bytes=200_000)
        for _ in range(1000):
            writer.write(b"x" * 999 + b"\n")
        assert not writer.flush(0)
        dropped = writer.dropped
        assert dropped == 800
        received = bytearray()
        thread = threading.Thread(target=lambda: received.extend(_read(reader, 200_000)))
        thread.start()
        assert writer.flush(5)
        thread.join()
    os.close(reader)
    assert (len(received), writer.dropped) == (200_000, dropped)


def _read(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += os.read(descriptor, size)
    return content


def test_drop_callback() -> None:
    """The callback gets earlier and later drops."""
    writer = LogWriter(FakeFile(), max_bytes=3)
    calls: list[int] = []
    writer.write(b"too long\n")
    writer.on_drop(calls.append)
    writer.write(b"too long\n")
    assert (calls, writer.dropped) == ([1, 1], 2)


def test_failing_drop_callback() -> None:
    """A callback that fails stops neither the writer nor those that log."""

    def fail(lines: int) -> None:
        raise RuntimeError(lines)

    file = FakeFile(OSError(errno.ENOSPC, "full"))
    writer = LogWriter(file, max_bytes=10)
    writer.on_drop(fail)
    for line in (b"lost\n", b"far too long\n", b"kept\n"):
        writer.write(line)
        assert writer.flush(5)
    assert (file.writes, writer.dropped) == ([b"kept\n"], 2)
