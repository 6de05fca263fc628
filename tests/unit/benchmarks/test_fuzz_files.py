"""A short run of the fuzz of files."""

import pytest

from benchmarks.fuzz_files import READERS, fuzz


@pytest.mark.parametrize("kind", sorted(READERS.keys() - {"images"}))
def test_damaged_files(kind: str) -> None:
    """Damaged files are read or refused in one line, within time and memory."""
    assert fuzz([kind], 25, seed=7, keep=None) == 0
