"""NVIDIA GPUs, through NVML."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import pynvml

from maxgate.tools.monitor.snapshot import GpuReading

_SLOWED_BY: Final[Mapping[int, str]] = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware",
}


class GpuSource:
    """Reads every GPU; none where there is no NVIDIA driver.

    `nvml` is pynvml's interface.
    """

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._handles: list[Any] = []
        try:
            nvml.nvmlInit()
            self._handles = [
                nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
            ]
        except pynvml.NVMLError:
            self._handles = []

    def read(self) -> tuple[GpuReading, ...]:
        """The GPUs; one that has fallen off the bus is left out."""
        found = (
            self._known(partial(self._gpu, index, handle))
            for index, handle in enumerate(self._handles)
        )
        return tuple(gpu for gpu in found if gpu is not None)

    def _gpu(self, index: int, handle: Any) -> GpuReading:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        milliwatts = self._known(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        reasons = self._known(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return GpuReading(
            index=index,
            name=nvml.nvmlDeviceGetName(handle),
            utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            memory_used=memory.used,
            memory_total=memory.total,
            power_watts=None if milliwatts is None else milliwatts / 1000,
            temperature_celsius=self._known(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            slowed_by=tuple(dict.fromkeys(t for bit, t in _SLOWED_BY.items() if reasons & bit)),
        )

    @staticmethod
    def _known(read: Callable[[], Any]) -> Any:
        # Not every GPU tells everything, and virtual ones tell little.
        try:
            return read()
        except pynvml.NVMLError:
            return None
