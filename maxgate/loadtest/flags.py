"""The flags of `load_test.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from maxgate.loadtest.flag_values import (
    parse_body,
    parse_duration,
    parse_headers,
    parse_numbers,
    parse_objectives,
    parse_scenarios,
    parse_shard,
    parse_start_time,
    parse_targets,
    parse_trace_columns,
)
from maxgate.loadtest.messages import TimeUnit, TraceFormat, TraceOptions
from maxgate.loadtest.options import Options


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The values of all flags as given; each field is the declaration of a Typer option."""

    url: Annotated[str, typer.Option(help="URL of the server.", rich_help_panel="Server")] = (
        "http://localhost:8000"
    )
    model: Annotated[
        str | None,
        typer.Option(help="Model (default: first of /v1/models).", rich_help_panel="Server"),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="OPENAI_API_KEY", help="API key (Bearer token).", rich_help_panel="Server"
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            "-H",
            help="Extra header, NAME: VALUE (repeatable).",
            rich_help_panel="Server",
        ),
    ] = None
    cacert: Annotated[
        Path | None,
        typer.Option(
            help="Also trust the certificates in this PEM file.", rich_help_panel="Server"
        ),
    ] = None
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Accept any certificate.", rich_help_panel="Server"),
    ] = False
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Send every request to this URL too and compare the servers in pairs.",
            rich_help_panel="Server",
        ),
    ] = None
    baseline_model: Annotated[
        str | None,
        typer.Option(help="Model of the baseline server.", rich_help_panel="Server"),
    ] = None

    scenario: Annotated[
        str,
        typer.Option(
            help="short, medium, long, mixed, or a YAML, JSONL or ShareGPT file; comma-separated.",
            rich_help_panel="Workload",
        ),
    ] = ""
    stream: Annotated[
        bool,
        typer.Option(
            "--stream/--no-stream", help="Request streamed responses.", rich_help_panel="Workload"
        ),
    ] = True
    max_tokens: Annotated[
        int,
        typer.Option(
            min=0, help="max_tokens of each request; 0 omits it.", rich_help_panel="Workload"
        ),
    ] = 32
    body: Annotated[
        str,
        typer.Option(
            help='Extra request fields as JSON, such as {"ignore_eos": true}.',
            rich_help_panel="Workload",
        ),
    ] = "{}"
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Make every prompt unique, so that no prefix cache hits.",
            rich_help_panel="Workload",
        ),
    ] = False
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="tokenizer.json for exact lengths of synthetic prompts.",
            rich_help_panel="Workload",
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of all random choices.", rich_help_panel="Workload")
    ] = 0

    concurrency: Annotated[
        str,
        typer.Option(
            "--concurrency",
            "-c",
            help="Closed loop: concurrent requests, such as 1,8,32 (default: 8).",
            rich_help_panel="Load",
        ),
    ] = ""
    rate: Annotated[
        str,
        typer.Option(
            "--rate",
            "-r",
            help="Open loop: requests per second, such as 5,10,20.",
            rich_help_panel="Load",
        ),
    ] = ""
    arrivals: Annotated[
        Literal["constant", "poisson", "ramp"],
        typer.Option(help="Arrival process of the open loop.", rich_help_panel="Load"),
    ] = "constant"
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Send a recorded workload at its own timestamps.",
            rich_help_panel="Load",
        ),
    ] = False
    speed: Annotated[
        float, typer.Option(min=0.001, help="Speed of the replay.", rich_help_panel="Load")
    ] = 1.0
    trace_format: Annotated[
        TraceFormat,
        typer.Option(
            help="Format of the trace (auto: found from its columns).", rich_help_panel="Trace"
        ),
    ] = "auto"
    trace_unit: Annotated[
        TimeUnit | None,
        typer.Option(
            help="Unit of numeric times (default: that of the format).", rich_help_panel="Trace"
        ),
    ] = None
    trace_columns: Annotated[
        str,
        typer.Option(
            help="Columns with other names: time=NAME,input=NAME,output=NAME.",
            rich_help_panel="Trace",
        ),
    ] = ""
    trace_start: Annotated[
        str,
        typer.Option(
            help="Skip this much of the trace's own time, such as 10m.", rich_help_panel="Trace"
        ),
    ] = "0s"
    trace_duration: Annotated[
        str | None,
        typer.Option(
            help="Use this much of the trace's own time, such as 1h.", rich_help_panel="Trace"
        ),
    ] = None
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Increase the load until the server saturates.", rich_help_panel="Load"
        ),
    ] = False
    soak: Annotated[
        str | None,
        typer.Option(help="Run this long, such as 1h, and test for drift.", rich_help_panel="Load"),
    ] = None
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            help="Duration of each level, such as 30s or 2m (default: 15s).",
            rich_help_panel="Load",
        ),
    ] = None
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests", "-n", min=1, help="Requests of each level.", rich_help_panel="Load"
        ),
    ] = None
    warmup: Annotated[
        int | None,
        typer.Option(
            min=0, help="First requests of each level, not measured.", rich_help_panel="Load"
        ),
    ] = None
    timeout: Annotated[
        str, typer.Option(help="Timeout of each request.", rich_help_panel="Load")
    ] = "120s"
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Go on although all requests fail.",
            rich_help_panel="Load",
        ),
    ] = False
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            "-p",
            min=1,
            max=256,
            help="Worker processes that generate the load.",
            rich_help_panel="Load",
        ),
    ] = 1
    shard: Annotated[
        str,
        typer.Option(
            help="Part of this machine, I/N, counted from 0; see merge.", rich_help_panel="Load"
        ),
    ] = "0/1"
    start_at: Annotated[
        str | None,
        typer.Option(help="Start time: an ISO date or seconds since 1970.", rich_help_panel="Load"),
    ] = None

    calibrate: Annotated[
        bool,
        typer.Option(
            help="Measure the load generator's own timing error.", rich_help_panel="Results"
        ),
    ] = True
    slo: Annotated[
        str,
        typer.Option(
            help="Objectives for goodput, such as ttft=500ms,tpot=50ms.",
            rich_help_panel="Results",
        ),
    ] = ""
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Limits to judge, such as p95=800ms,throughput=25 (default: no verdict).",
            rich_help_panel="Results",
        ),
    ] = None
    targets: Annotated[
        Literal["design"] | None,
        typer.Option(
            help="Judge the design's targets; --target replaces single limits.",
            rich_help_panel="Results",
        ),
    ] = None
    compare: Annotated[
        Path | None,
        typer.Option(
            help="Earlier report; exit with 1 on a regression.", rich_help_panel="Results"
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Report file (default: results/<time>.json).",
            rich_help_panel="Results",
        ),
    ] = None
    csv: Annotated[Path | None, typer.Option(help="Also write CSV.", rich_help_panel="Results")] = (
        None
    )
    prometheus: Annotated[
        Path | None,
        typer.Option(help="Also write Prometheus text.", rich_help_panel="Results"),
    ] = None
    records: Annotated[
        bool,
        typer.Option(help="Keep raw records beside the report.", rich_help_panel="Results"),
    ] = True
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Print every metric of each level.",
            rich_help_panel="Results",
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print neither progress nor summary.", rich_help_panel="Results"
        ),
    ] = False
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the report as JSON to standard output.", rich_help_panel="Results"
        ),
    ] = False

    def parse(self) -> Options:
        """Parse the values. Raises ConfigurationError."""
        duration, flag = self.duration, "--duration"
        if self.soak is not None:
            duration, flag = self.soak, "--soak"
        concurrency = parse_numbers(self.concurrency, "--concurrency", whole=True)
        return Options(
            url=self.url,
            model=self.model,
            api_key=self.api_key,
            headers=parse_headers(self.header or []),
            cacert=None if self.cacert is None else str(self.cacert),
            insecure=self.insecure,
            baseline=self.baseline,
            baseline_model=self.baseline_model,
            scenarios=parse_scenarios(self.scenario, sweep=self.sweep),
            stream=self.stream,
            max_tokens=self.max_tokens or None,
            extra=parse_body(self.body),
            cold=self.cold,
            tokenizer=self.tokenizer,
            concurrency=tuple(int(number) for number in concurrency),
            rates=tuple(parse_numbers(self.rate, "--rate")),
            arrivals=self.arrivals,
            replay=self.replay,
            speed=self.speed,
            trace=TraceOptions(
                format=self.trace_format,
                unit=self.trace_unit,
                columns=parse_trace_columns(self.trace_columns),
                start=parse_duration(self.trace_start, "--trace-start"),
                duration=None
                if self.trace_duration is None
                else parse_duration(self.trace_duration, "--trace-duration"),
            ),
            sweep=self.sweep,
            soak=self.soak is not None,
            duration=None if duration is None else parse_duration(duration, flag),
            requests=self.requests,
            warmup=self.warmup,
            timeout=parse_duration(self.timeout, "--timeout"),
            keep_going=self.keep_going,
            seed=self.seed,
            processes=self.processes,
            shard=parse_shard(self.shard),
            start_at=None if self.start_at is None else parse_start_time(self.start_at),
            calibration=Options.calibration if self.calibrate else 0.0,
            objectives=parse_objectives(self.slo),
            targets=parse_targets(self.target or [], self.targets),
            compare=self.compare,
            output=self.output,
            csv=self.csv,
            prometheus=self.prometheus,
            records=self.records,
            details=self.details,
            quiet=self.quiet,
            json=self.json,
        )
