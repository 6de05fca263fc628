"""The gguf package's reader, on a plain array; import it where the extra `local` is installed."""

from typing import Any

import numpy as np
from gguf import GGUFReader


class MappedReader(GGUFReader):
    """Reads a header with hundreds of thousands of strings in a third of the time.

    The package slices a `numpy.memmap` for each of them, which costs several times what slicing an
    array does; the array here is the same mapped memory.
    """

    @property
    def data(self) -> Any:
        """The whole file's bytes."""
        return self._data

    @data.setter
    def data(self, mapped: Any) -> None:
        self._data = mapped.view(np.ndarray)
