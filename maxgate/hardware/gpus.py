"""NVIDIA GPUs of this host, through NVML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pynvml


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One NVIDIA GPU; `slowed_by` lists the reasons for reduced clocks."""

    index: int
    name: str
    utilisation: float
    memory_used: int
    memory_total: int
    power_watts: float | None = None
    temperature_celsius: float | None = None
    slowed_by: tuple[str, ...] = ()


_SLOWDOWN_REASONS: Final[Mapping[int, str]] = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware",
}


class GpuSource:
    """Reads all NVIDIA GPUs through NVML; none without a driver."""

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
        """One reading per GPU; a GPU that fails is left out."""
        readings = (
            self._read_optional(partial(self._read_gpu, index, handle))
            for index, handle in enumerate(self._handles)
        )
        return tuple(reading for reading in readings if reading is not None)

    def _read_gpu(self, index: int, handle: Any) -> GpuReading:
        nvml, optional = self._nvml, self._read_optional
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        milliwatts = optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        reasons = optional(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return GpuReading(
            index=index,
            name=nvml.nvmlDeviceGetName(handle),
            utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            memory_used=memory.used,
            memory_total=memory.total,
            power_watts=None if milliwatts is None else milliwatts / 1000,
            temperature_celsius=optional(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            slowed_by=tuple(
                dict.fromkeys(name for bit, name in _SLOWDOWN_REASONS.items() if reasons & bit)
            ),
        )

    @staticmethod
    def _read_optional(read: Callable[[], Any]) -> Any:
        # Some GPUs, virtual ones above all, do not support every query.
        try:
            return read()
        except pynvml.NVMLError:
            return None
