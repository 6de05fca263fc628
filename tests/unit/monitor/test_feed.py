"""Sampling at fixed intervals, recording and replay."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from maxgate.errors import ConfigurationError
from maxgate.monitor.feed import Sampler, record, replay, sample_periodically, validate_url
from maxgate.monitor.recording import Recorder, Recording
from maxgate.monitor.snapshot import Snapshot
from tests.fakes.clock import FakeClock
from tests.unit.monitor.examples import gateway, snapshot

SNAPSHOTS = (snapshot(0.5), snapshot(1.5, gateway(1)), snapshot(4.5, gateway(4, ok=3)))


class SlowSampler:
    """A sampler whose samples take given times."""

    def __init__(self, clock: FakeClock, durations: list[float]) -> None:
        self._clock = clock
        self._durations = durations
        self.started: list[float] = []

    async def sample(self) -> Snapshot:
        self.started.append(self._clock.monotonic() - 1000)
        self._clock.advance(self._durations.pop(0))
        return snapshot(self.started[-1])


async def test_slow_sample() -> None:
    """A slow sample delays the next one but not those after it."""
    clock = FakeClock()
    sampler = SlowSampler(clock, [0.1, 2.5, 0.1, 0.1])

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    feed = sample_periodically(cast("Sampler", sampler), 1.0, clock, sleep)
    async with aclosing(feed) as snapshots:
        for _ in range(4):
            await anext(snapshots)
    assert sampler.started == [0.0, 1.0, 3.5, 4.5]


async def test_record(tmp_path: Path) -> None:
    """Each snapshot is written before it is yielded."""
    path = tmp_path / "a.jsonl"

    async def feed() -> AsyncGenerator[Snapshot]:
        for one in SNAPSHOTS:
            yield one

    received: list[Snapshot] = []
    with Recorder(path, "") as recorder:
        async for one in record(feed(), recorder):
            received.append(one)
            assert len(path.read_text().splitlines()) == len(received) + 1
    assert tuple(received) == SNAPSHOTS


async def test_replay(tmp_path: Path) -> None:
    """A replay keeps the recorded intervals, divided by its speed."""
    path = tmp_path / "a.jsonl"
    with Recorder(path, "") as recorder:
        for one in SNAPSHOTS:
            recorder.write(one)
    delays = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    received = [one async for one in replay(Recording(path), 2.0, sleep)]
    assert (tuple(received), delays) == (SNAPSHOTS, [0, 0.5, 1.5])


def test_validate_url() -> None:
    """Only HTTP URLs are valid; a trailing slash and the paths that clients use are dropped."""
    for path in ("/", "/v1", "/v1/", "/v1/chat/completions", "/v1/models"):
        assert validate_url(f"https://gateway:8000{path}") == "https://gateway:8000"
    assert validate_url("http://gateway/proxy/v1") == "http://gateway/proxy"
    assert validate_url("http://gateway:8001/metrics") == "http://gateway:8001/metrics"
    for url in ("localhost", "ftp://gateway", "http://"):
        with pytest.raises(ConfigurationError, match="is not an HTTP URL"):
            validate_url(url)
