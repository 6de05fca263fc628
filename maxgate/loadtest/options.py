"""The options of a run, and the checks that they can work together."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxgate.errors import ConfigurationError
from maxgate.loadtest.arrivals import Arrivals
from maxgate.loadtest.messages import TraceOptions
from maxgate.results.report import LoadKind


@dataclass(frozen=True)
class Options:
    """The parsed flags; times in seconds."""

    url: str = "http://localhost:8000"
    model: str | None = None
    api_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cacert: str | None = None
    insecure: bool = False
    baseline: str | None = None
    baseline_model: str | None = None
    scenarios: tuple[str, ...] = ("short", "medium", "long")
    stream: bool = True
    max_tokens: int | None = 32
    extra: dict[str, Any] = field(default_factory=dict)
    cold: bool = False
    tokenizer: str | None = None
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    arrivals: Arrivals = "constant"
    replay: bool = False
    speed: float = 1.0
    trace: TraceOptions = field(default_factory=TraceOptions)
    sweep: bool = False
    soak: bool = False
    duration: float | None = None
    requests: int | None = None
    warmup: int | None = None
    timeout: float = 120.0
    keep_going: bool = False
    grace: float = 30.0
    seed: int = 0
    processes: int = 1
    shard: tuple[int, int] = (0, 1)
    start_at: float | None = None
    """Seconds since 1970."""
    calibration: float = 3.0
    """Seconds of load on the mock server per level, half before and half after it; 0 for none."""
    objectives: dict[str, float] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    compare: Path | None = None
    output: Path | None = None
    csv: Path | None = None
    prometheus: Path | None = None
    records: bool = True
    details: bool = False
    quiet: bool = False
    json: bool = False

    def check(self) -> None:
        """Raises ConfigurationError for flags that contradict each other or have no effect."""
        for wrong, message in self._find_conflicts():
            if wrong:
                raise ConfigurationError(message)

    def _find_conflicts(self) -> Iterator[tuple[object, str]]:
        yield (
            self.rates and self.concurrency,
            "--rate and --concurrency exclude each other: choose an open loop (rate) or a closed "
            "loop (concurrency)",
        )
        yield (
            self.replay and (self.rates or self.concurrency or self.sweep),
            "--replay takes the departure times from the recorded workload; remove --rate, "
            "--concurrency and --sweep",
        )
        yield (
            self.sweep and len(self.scenarios) > 1,
            "--sweep needs a single --scenario, such as mixed",
        )
        yield self.soak and self.sweep, "--soak and --sweep exclude each other"
        yield (
            self.duration == 0 or self.timeout == 0,
            "--duration, --soak and --timeout must be above 0, for example 30s",
        )
        yield (
            self.arrivals != "constant" and not self.rates,
            f"--arrivals {self.arrivals} needs --rate",
        )
        yield (
            self.speed > 1e6,
            f"--speed {self.speed:g}: expected a number from 0.001 to 1,000,000",
        )
        yield self.speed != 1 and not self.replay, "--speed needs --replay"
        yield (
            self.baseline_model is not None and self.baseline is None,
            "--baseline-model needs --baseline",
        )
        yield (
            self.shard[1] > 1 and (self.start_at is None or self.duration is None or self.sweep),
            "--shard needs --start-at and --duration, so that all machines start and stop "
            "together; --sweep is not possible",
        )

    @property
    def kind(self) -> LoadKind:
        """The kind of load."""
        if self.sweep:
            return "sweep"
        if self.soak:
            return "soak"
        if self.replay:
            return "replay"
        return self.arrivals if self.rates else "closed"
