"""The command `load_test.py`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from maxgate.cli.run import run_app
from maxgate.loadtest.analysis.targets import parse_objectives, parse_targets, seconds
from maxgate.loadtest.merge import merge
from maxgate.loadtest.options import (
    Options,
    parse_body,
    parse_headers,
    parse_numbers,
    parse_optional_duration,
    parse_scenarios,
    parse_shard,
    parse_start,
)
from maxgate.loadtest.run import exit_code, load_test, publish


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it, with this process's arguments if none are given, and exit.

    0 or 1 by the targets, 2 for flags and files that cannot work.
    """
    app = typer.Typer(
        pretty_exceptions_enable=False, add_completion=False, invoke_without_command=True
    )
    app.callback()(run_command)
    app.command("merge")(merge_command)
    run_app(app, "load_test.py", arguments, prog_name="load_test.py")


def run_command(  # noqa: PLR0917
    context: typer.Context,
    url: Annotated[
        str, typer.Option(help="An OpenAI-compatible server.")
    ] = "http://localhost:8000",
    model: Annotated[str | None, typer.Option(help="Else the first of /v1/models.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY")] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME: VALUE, again for more.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Ask this server the same, in turn.")] = None,
    baseline_model: Annotated[str | None, typer.Option()] = None,
    scenario: Annotated[
        str,
        typer.Option(help="short, medium, long, mixed, or a file: YAML, JSONL, ShareGPT, trace."),
    ] = "",
    stream: Annotated[bool, typer.Option("--stream/--no-stream")] = True,
    max_tokens: Annotated[int, typer.Option(min=0, help="0 leaves it to the server.")] = 32,
    body: Annotated[str, typer.Option(help='More fields, as JSON: {"ignore_eos": true}.')] = "{}",
    cold: Annotated[
        bool, typer.Option("--cold", help="Nothing for the prefix cache to find.")
    ] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="tokenizer.json, for exact lengths.")
    ] = None,
    concurrency: Annotated[str, typer.Option("--concurrency", "-c", help="1,8,32")] = "",
    rate: Annotated[str, typer.Option("--rate", "-r", help="Requests per second: 5,10,20")] = "",
    arrivals: Annotated[Literal["constant", "poisson", "ramp"], typer.Option()] = "constant",
    replay: Annotated[bool, typer.Option("--replay", help="At the times of the trace.")] = False,
    speed: Annotated[float, typer.Option(min=0.001, help="Of the replay.")] = 1.0,
    sweep: Annotated[bool, typer.Option("--sweep", help="More and more until saturated.")] = False,
    soak: Annotated[str | None, typer.Option(help="For so long, and say what drifts: 1h.")] = None,
    duration: Annotated[str | None, typer.Option("--duration", "-d", help="30s, 2m")] = None,
    requests: Annotated[int | None, typer.Option("--requests", "-n", min=1)] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Requests that are left out.")] = None,
    timeout: Annotated[str, typer.Option(help="Of one request.")] = "120s",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, max=256)] = 1,
    shard: Annotated[str, typer.Option(help="I/N: this machine's part, from 0.")] = "0/1",
    start_at: Annotated[str | None, typer.Option(help="A date, or seconds since 1970.")] = None,
    calibrate: Annotated[bool, typer.Option(help="Measure the client's own error.")] = True,
    slo: Annotated[str, typer.Option(help="For goodput: ttft=500ms,tpot=50ms")] = "",
    target: Annotated[list[str] | None, typer.Option(help="p95=800ms, throughput=25, none")] = None,
    compare: Annotated[Path | None, typer.Option(help="An old report; exit 1 if worse.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The report.")] = None,
    csv: Annotated[Path | None, typer.Option()] = None,
    prometheus: Annotated[Path | None, typer.Option()] = None,
    records: Annotated[bool, typer.Option(help="Keep raw records beside the report.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False,
    json: Annotated[bool, typer.Option("--json", help="The report on standard output.")] = False,
) -> int:
    """Load a server, measure it, judge it."""
    if context.invoked_subcommand is not None:
        return 0
    options = Options(
        url=url,
        model=model,
        api_key=api_key,
        headers=parse_headers(header or []),
        baseline=baseline,
        baseline_model=baseline_model,
        scenarios=parse_scenarios(scenario, sweep=sweep),
        stream=stream,
        max_tokens=max_tokens or None,
        extra=parse_body(body),
        cold=cold,
        tokenizer=tokenizer,
        concurrency=tuple(int(n) for n in parse_numbers(concurrency, "--concurrency", whole=True)),
        rates=tuple(parse_numbers(rate, "--rate")),
        arrivals=arrivals,
        replay=replay,
        speed=speed,
        sweep=sweep,
        soak=soak is not None,
        duration=parse_optional_duration(duration, "--duration")
        if soak is None
        else parse_optional_duration(soak, "--soak"),
        requests=requests,
        warmup=warmup,
        timeout=seconds(timeout, "--timeout"),
        seed=seed,
        processes=processes,
        shard=parse_shard(shard),
        start_at=parse_start(start_at),
        calibration=Options.calibration if calibrate else 0.0,
        objectives=parse_objectives(slo),
        targets=parse_targets(target or []),
        compare=compare,
        output=output,
        csv=csv,
        prometheus=prometheus,
        records=records,
        quiet=quiet,
        json=json,
    )
    return load_test(options, sys.argv)


def merge_command(
    reports: Annotated[list[Path], typer.Argument(help="The reports of --shard 0/N, 1/N, ...")],
    output: Annotated[Path | None, typer.Option("--output", "-o")] = None,
    target: Annotated[list[str] | None, typer.Option()] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> int:
    """Join the reports of several machines, exactly, from their raw records."""
    merged, records = merge(reports, parse_targets(target or []))
    path = output or Path("results") / "merged.json"
    publish(merged, records, Options(output=path, quiet=quiet, json=json))
    return exit_code(merged)
