"""One run of load_test.py: run the levels, write the report, and decide the exit code."""

import asyncio
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from maxgate.cli.run import Interrupted
from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.comparison import check_comparable, compare
from maxgate.loadtest.arrivals import plan_replay
from maxgate.loadtest.console import print_report
from maxgate.loadtest.exports import write_csv, write_prometheus
from maxgate.loadtest.levels import plan_levels
from maxgate.loadtest.messages import RequestShape, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.overview import describe_run, estimate_seconds, format_seconds
from maxgate.loadtest.progress import LiveScreen
from maxgate.loadtest.report_builder import build_report
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.recorded_workload import describe_arrivals
from maxgate.loadtest.scenarios.requests import RequestSource
from maxgate.loadtest.scenarios.synthetic import prompt_writer
from maxgate.loadtest.session import RunResults, Session
from maxgate.loadtest.target import resolve_targets
from maxgate.loadtest.worker_pool import start_worker_pool
from maxgate.results.files import check_replaceable, read_report, write_report
from maxgate.results.output import check_distinct, check_no_folder, check_writable, is_device
from maxgate.results.records import Records, read_report_records, write_records
from maxgate.results.report import Report

_END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""SIGHUP: the terminal was closed, or the SSH connection was lost."""
_LARGE_FILE_BYTES: Final = 30_000_000
RECORDS_SUFFIX: Final = ".records.npz"


def run_load_test(options: Options, command: Sequence[str]) -> int:
    """Run everything and return the exit code.

    Raises Interrupted if interrupted before the first result, and ConfigurationError.
    """
    options.check()
    old = read_report(options.compare) if options.compare is not None else None
    fingerprint, notes = load_scenarios(options)
    old_records = None if old is None else _read_comparable_records(old, options, fingerprint)
    path = options.output or _default_path(datetime.now(UTC))
    inputs = [*options.scenarios, options.cacert, options.tokenizer, options.compare]
    check_outputs(
        replace(options, output=path), [Path(file) for file in inputs if file is not None]
    )
    targets = resolve_targets(options)
    total = estimate_seconds(options)
    console = Console(stderr=True)
    with LiveScreen(console, time.monotonic, quiet=options.quiet, total=total) as screen:
        head = describe_run(options, targets, path, now=datetime.now().astimezone())
        screen.head([*head, *notes])
        results = asyncio.run(_run_session(options, targets, screen))
    if not results.levels:
        raise Interrupted("interrupted before the first result")
    models = [target.model for target in targets]
    report = build_report(
        options, results, command=command, models=models, fingerprint=fingerprint, notes=notes
    )
    if old is not None:
        changes = compare(old, report, old_records, results.records, options.seed)
        report = report.model_copy(update={"comparison": changes})
    publish(report, results.records, replace(options, output=path))
    if not options.quiet:
        print(f"Total time: {format_seconds(screen.elapsed)}", file=sys.stderr)
    elif report.stopped is not None:
        print(f"Stopped early: {report.stopped}", file=sys.stderr)
    return decide_exit_code(report)


def check_outputs(options: Options, inputs: Sequence[Path]) -> None:
    """Check that all files can be written and that no other file is lost.

    Raises ConfigurationError.
    """
    path = options.output
    outputs = [file for file in (path, options.csv, options.prometheus) if file is not None]
    for file in outputs:
        check_no_folder(file)
    if path is not None and options.records and not is_device(path):
        outputs.append(path.with_suffix(RECORDS_SUFFIX))
    check_distinct(outputs, inputs)
    for file in outputs:
        check_writable(file)
    if path is not None:
        check_replaceable(path)


def load_scenarios(options: Options) -> tuple[str, list[str]]:
    """A hash of all scenarios, and lines about the content of their files.

    Raises ConfigurationError if a scenario does not exist or cannot be replayed.
    """
    if options.tokenizer is not None:
        prompt_writer(options.tokenizer)  # reports an invalid file, even if no scenario needs it
    fingerprints: list[str] = []
    notes: list[str] = []
    for scenario in options.scenarios:
        shape = RequestShape(
            scenario=scenario,
            seed=options.seed,
            stream=options.stream,
            max_tokens=options.max_tokens,
            extra=options.extra,
            tokenizer=options.tokenizer,
            trace=options.trace,
        )
        if not options.quiet:
            _announce_large_file(Path(scenario))
        loaded = load_scenario(shape)
        notes += loaded.summary
        if options.replay:
            if loaded.arrivals is None:
                raise ConfigurationError(
                    f"--replay: scenario {scenario} has no timestamps; use a recorded workload"
                )
            notes.append(_describe_replay(loaded.arrivals, options))
        fingerprints.append(RequestSource(shape, loaded).fingerprint())
    if len(fingerprints) == 1:
        return fingerprints[0], notes
    return "+".join(one[:32] for one in fingerprints), notes


def _announce_large_file(path: Path) -> None:
    """Explain the pause before the load."""
    if path.is_file() and (size := path.stat().st_size) > _LARGE_FILE_BYTES:
        print(f"reading {path} ({size / 1e6:,.0f} MB)", file=sys.stderr)


def _describe_replay(arrivals: Sequence[float], options: Options) -> str:
    planned = plan_replay(
        arrivals, speed=options.speed, sides=1, count=options.requests, duration=options.duration
    )
    speed = "" if options.speed == 1 else f" at {options.speed:g} times the speed"
    return f"replay{speed}: {describe_arrivals(planned)}"


def publish(report: Report, records: Sequence[Records], options: Options) -> None:
    """Write the files and print the summary.

    A file that cannot be written costs nothing but itself. Raises ConfigurationError afterwards.
    """
    path = options.output or _default_path(report.created_at)
    failures: list[ConfigurationError] = []
    if options.records and not is_device(path):
        records_path = path.with_suffix(RECORDS_SUFFIX)
        with _collect(failures):
            write_records(records, records_path)
            report = report.model_copy(update={"records": records_path.name})
    with _collect(failures):
        write_report(report, path)
    if options.csv is not None:
        with _collect(failures):
            write_csv(report, options.csv)
    if options.prometheus is not None:
        with _collect(failures):
            write_prometheus(report, options.prometheus)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(report.model_dump(mode="json")) + b"\n")
    elif not options.quiet:
        print_report(report, Console(), details=options.details)
    if failures:
        raise ConfigurationError("; ".join(map(str, failures)))
    if not options.quiet:
        print(f"Report: {path}", file=sys.stderr)


@contextmanager
def _collect(failures: list[ConfigurationError]) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        failures.append(error)


def decide_exit_code(report: Report) -> int:
    """1 if the run failed, otherwise 0.

    It fails if a target was missed, a comparison found a regression, no request of a level
    succeeded (unless interrupted), the run stopped because all requests failed, or the load
    generator was the bottleneck while targets are set.
    Targets without a verdict do not count.
    """
    nothing = any(not level.requests.succeeded for level in report.levels)
    limited = any(level.client.limited for level in report.levels)
    missed = any(grade.verdict == "fail" for grade in report.grades)
    worse = any(change.verdict == "worse" for change in report.comparison)
    failed = report.stopped is not None or (nothing and not report.interrupted)
    return int(missed or worse or failed or (limited and bool(report.grades)))


async def _run_session(options: Options, targets: list[Target], screen: LiveScreen) -> RunResults:
    async with start_worker_pool(options.processes) as pool:
        session = Session(options, targets, pool, screen)
        with _handle_signals(session):
            await session.run()
        return session.results


@contextmanager
def _handle_signals(session: Session) -> Iterator[None]:
    """Interrupt the session on the first Ctrl-C, SIGTERM or SIGHUP, cancel it on the second."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal(number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            _release_terminal()
        if session.results.interrupted and task is not None:
            task.cancel()
        session.interrupt()

    for number in _END_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)


def _release_terminal() -> None:
    """Discard further output to the terminal: after a hangup, every write to it fails."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _read_comparable_records(
    old: Report, options: Options, fingerprint: str
) -> list[Records] | None:
    """The raw records of the old report, if kept; raises ConfigurationError for other work."""
    check_comparable(
        old,
        fingerprint=fingerprint,
        stream=options.stream,
        kind=options.kind,
        levels=[(spec.scenario, spec.name) for spec in plan_levels(options)],
    )
    if options.compare is None or old.records is None:
        return None
    if not options.compare.with_name(old.records).exists():
        return None
    return read_report_records(old, options.compare)


def _default_path(created_at: datetime) -> Path:
    return Path("results") / f"{created_at.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
