"""Simulated readings of a gateway with several engines, for pictures of the monitor."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maxgate.hardware.gpus import GpuReading
from maxgate.hardware.host import HostReading
from maxgate.monitor.histogram import Bucket, Histogram
from maxgate.monitor.http_sources import metrics_url
from maxgate.monitor.snapshot import EngineReading, EngineState, GatewayReading, Snapshot

URL: Final = "http://gpu-box:8000"
_GIB: Final = 2**30
_START: Final = 1_800_000_000.0
_UPTIME: Final = 3 * 86400.0
_SECONDS: Final = 600
_STRAINED: Final = 60
"""Seconds before the end, from which a strained gateway has too many requests."""

_OUTPUT_TOKENS: Final = 26
_PROMPT_TOKENS: Final = 180
_REQUESTS_PER_ENGINE: Final = 4.4
_FACTOR: Final = 1.01  # between the bounds of a bucket


@dataclass
class _Times:
    """A growing histogram of log-normal times: the median in seconds, and sigma."""

    sigma: float
    counts: dict[int, float]

    def add(self, requests: float, median: float) -> None:
        """Add requests with this median."""
        center, step = math.log(median), math.log(_FACTOR)
        lowest, highest = (center - 3 * self.sigma) / step, (center + 3 * self.sigma) / step
        numbers = range(math.floor(lowest), math.ceil(highest) + 1)
        weights = [math.exp(-0.5 * ((n * step - center) / self.sigma) ** 2) for n in numbers]
        for number, weight in zip(numbers, weights, strict=True):
            share = weight / sum(weights)
            self.counts[number] = self.counts.get(number, 0.0) + requests * share

    def build(self) -> Histogram:
        """The histogram so far."""
        buckets = tuple(
            Bucket(_FACTOR**number, _FACTOR ** (number + 1), count)
            for number, count in sorted(self.counts.items())
        )
        return Histogram(buckets, sum(bucket.low * bucket.n for bucket in buckets))


class _Simulation:
    """Counters of the gateway and of every engine, from second to second."""

    def __init__(self, engines: int, *, strained: bool) -> None:
        self._engines = engines
        self._strained = strained
        self._finished = 0.0
        self._failed = 0.0
        self._gpu_work = 0.0
        self._ttft, self._tpot = _Times(0.3, {}), _Times(0.12, {})
        self._latency = _Times(0.25, {})

    def step(self, second: int) -> Snapshot:
        """Simulate a second, and read all sources."""
        strain = max(0.0, (second - _SECONDS + _STRAINED) / _STRAINED) if self._strained else 0.0
        wave = 1 + 0.12 * math.sin(second / 40)
        rate = self._engines * _REQUESTS_PER_ENGINE * wave * (1 + 0.4 * strain)
        ttft, tpot = 0.053 * (1 + 9 * strain), 0.0125 * (1 + 0.05 * wave + 0.3 * strain)
        latency = ttft + tpot * (_OUTPUT_TOKENS - 1)
        self._finished += rate
        self._failed += rate * 0.01 * max(0.0, strain - 0.4)
        for times, median in ((self._ttft, ttft), (self._tpot, tpot), (self._latency, latency)):
            times.add(rate, median)
        working = self._engines - sum(self._is_down(n, strain) for n in range(self._engines))
        running, queued = rate * latency / working, 48.0 * strain / working
        return Snapshot(
            _START + second,
            float(second),
            self._read_gateway(second, (running + queued) * working, strain),
            engines=tuple(
                self._read_engine(number, running, queued, strain)
                for number in range(self._engines)
            ),
            host=HostReading(
                16, 16 * second * 0.23, 16.0 * second, 19 * _GIB, 64 * _GIB, 118 * _GIB, 512 * _GIB
            ),
            gpus=tuple(
                GpuReading(
                    index,
                    "H200",
                    min(0.97, 0.66 + 0.06 * wave + 0.03 * index + 0.3 * strain),
                    (101 + 3 * index) * _GIB,
                    141 * _GIB,
                    386.0 + 240 * strain,
                    61.0,
                )
                for index in range(2)
            ),
        )

    def _is_down(self, number: int, strain: float) -> bool:
        return number == 6 and strain > 0

    def _read_gateway(self, second: int, in_flight: float, strain: float) -> GatewayReading:
        finished = round(self._finished)
        outcomes = {"ok": finished, "client_error": 1}
        return GatewayReading(
            uptime=_UPTIME + second,
            workers=2,
            in_flight=round(in_flight),
            outcomes=outcomes | ({"timeout": round(self._failed)} if self._failed else {}),
            tokens={
                "prompt": _PROMPT_TOKENS * finished,
                "completion": _OUTPUT_TOKENS * finished,
                "cached": 54 * finished,
            },
            latency=self._latency.build(),
            time_to_first_token=self._ttft.build(),
            time_per_output_token=self._tpot.build(),
            cpu_seconds=0.11 * second,
            resident_bytes=212 * 2**20,
            engines=tuple(
                EngineState(
                    _url(number),
                    "unreachable" if self._is_down(number, strain) else "healthy",
                    ("llama-3.1-8b",),
                    round(in_flight / self._engines),
                    "connection refused" if self._is_down(number, strain) else None,
                )
                for number in range(self._engines)
            ),
        )

    def _read_engine(
        self, number: int, running: float, queued: float, strain: float
    ) -> EngineReading:
        url = metrics_url(_url(number))
        if self._is_down(number, strain):
            return EngineReading(url, error="connection refused")
        finished = self._finished / self._engines
        shift = 1 if number % 3 == 0 else 0
        ttft, tpot = (_scale(times.build(), self._engines) for times in (self._ttft, self._tpot))
        return EngineReading(
            url,
            gauges={
                "running": float(round(running) + shift),
                "queued": float(round(queued) - (shift if queued > 1 else 0)),
                "awaiting_admission": 0.0,
                "responses_buffered": 0.0,
                "kv_used_blocks": 280.0 + 10 * number + 40 * strain,
                "kv_total_blocks": 1000.0,
            },
            counters={
                "requests": finished,
                "input_tokens": finished * _PROMPT_TOKENS,
                "output_tokens": finished * _OUTPUT_TOKENS,
                "cache_hit_tokens": finished * (52 + number),
                "cache_miss_tokens": finished * (128 - number),
                "preemptions": 0.0,
            },
            histograms={
                "time_to_first_token": ttft,
                "time_per_output_token": tpot,
                "batch_size_decode": Histogram(
                    (Bucket(0.0, 4.0, finished * 20),), finished * 20 * (running * 0.95 + shift)
                ),
            },
        )


def _scale(histogram: Histogram, engines: int) -> Histogram:
    """An engine's share of the times of all, slightly shorter than the gateway's."""
    buckets = tuple(
        Bucket(low * 0.99, None if high is None else high * 0.99, count / engines)
        for low, high, count in histogram.buckets
    )
    return Histogram(buckets, histogram.total * 0.99 / engines)


def _url(number: int) -> str:
    return f"http://10.0.0.{11 + number}:8080"


def simulate(engines: int, *, strained: bool = False) -> Iterator[Snapshot]:
    """Snapshots of ten minutes, one every two seconds.

    In a strained gateway, the seventh engine fails and the others get too many requests at the end.
    """
    simulation = _Simulation(engines, strained=strained)
    for second in range(_SECONDS):
        snapshot = simulation.step(second)
        if second % 2 == 0:
            yield snapshot
