"""A fake NVML with two GPUs, the second without optional queries; or without a driver."""

from types import SimpleNamespace

import pynvml


class FakeNvml:
    """Two GPUs, the second without optional queries; or no driver."""

    def __init__(self, *, driver: bool = True) -> None:
        self._driver = driver

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's names
        if not self._driver:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815
    nvmlDeviceGetName = staticmethod(lambda handle: f"GPU {handle}")  # noqa: N815
    nvmlDeviceGetMemoryInfo = staticmethod(  # noqa: N815
        lambda _: SimpleNamespace(used=3, total=4)
    )
    nvmlDeviceGetUtilizationRates = staticmethod(  # noqa: N815
        lambda _: SimpleNamespace(gpu=97)
    )

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return self._optional(handle, 312_000)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return self._optional(handle, 61)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802
        return self._optional(handle, pynvml.nvmlClocksThrottleReasonSwPowerCap)

    @staticmethod
    def _optional(handle: int, value: int) -> int:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value
