"""One call of load_test.py: run, report, judge."""

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
from rich.console import Console

from maxgate.cli.run import Interrupted
from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.comparison import check_comparable, compare
from maxgate.loadtest.analysis.saturation import first_levels
from maxgate.loadtest.client.address import parse_address
from maxgate.loadtest.client.client import ServerUnreachable
from maxgate.loadtest.console import LiveScreen, print_report
from maxgate.loadtest.exports import write_csv, write_prometheus
from maxgate.loadtest.messages import RequestShape, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.report_builder import build_report
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource
from maxgate.loadtest.session import RunResults, Session
from maxgate.loadtest.worker_pool import start_worker_pool
from maxgate.results.files import check_writable, read_report, write_report
from maxgate.results.records import Records, read_records, write_records
from maxgate.results.report import Report


@contextmanager
def interruptible(session: Session) -> Iterator[None]:
    """Ctrl-C ends the session in good order; a second one at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if session.results.interrupted and task is not None:
            task.cancel()
        session.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def fetch_first_model(url: str, headers: Mapping[str, str]) -> str | None:
    """The first model of `GET /v1/models`; None where the server does not list any.

    Raises ServerUnreachable where nobody answers, and ConfigurationError where a key is asked for.
    """
    base = parse_address(url).url
    try:
        with httpx.Client(trust_env=False, timeout=10, headers=dict(headers)) as client:
            answer = client.get(f"{base}/v1/models")
    except httpx.HTTPError as error:
        raise ServerUnreachable(
            f"{base} does not answer: {error}; is the server up? `make run` starts one"
        ) from error
    if answer.status_code in {401, 403}:
        raise ConfigurationError(f"{base} asks for a key; give --api-key")
    try:
        listed = answer.json()["data"]
        return str(listed[0]["id"]) if listed else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None


_WIDTH = 118  # what the table of a level needs; a narrower terminal wraps


def load_test(options: Options, command: Sequence[str]) -> int:
    """Run it all and return the exit code: 0 or 1 by targets and comparison."""
    options.check()
    old = read_report(options.compare) if options.compare is not None else None
    fingerprint = compute_fingerprint(options)
    old_records = None if old is None else _comparable_records(old, options, fingerprint)
    for path in (
        options.output or _default_path(datetime.now(UTC)),
        options.csv,
        options.prometheus,
    ):
        if path is not None:
            check_writable(path)
    targets = _targets(options)
    console = Console(stderr=True)
    with LiveScreen(console, quiet=options.quiet) as screen:
        results = asyncio.run(_run(options, targets, screen))
    if not results.levels:
        raise Interrupted("interrupted before anything was measured")
    models = [target.model for target in targets]
    report = build_report(options, results, command=command, models=models, fingerprint=fingerprint)
    if old is not None:
        changes = compare(old, report, old_records, results.records, options.seed)
        report = report.model_copy(update={"comparison": changes})
    publish(report, results.records, options)
    return exit_code(report)


def compute_fingerprint(options: Options) -> str:
    """Of all scenarios together.

    Raises ConfigurationError for those that do not exist, or cannot be replayed as was asked.
    """
    found = []
    for scenario in options.scenarios:
        shape = RequestShape(
            scenario=scenario,
            seed=options.seed,
            stream=options.stream,
            max_tokens=options.max_tokens,
            extra=options.extra,
            tokenizer=options.tokenizer,
        )
        loaded = load_scenario(shape)
        if options.replay and loaded.arrivals is None:
            raise ConfigurationError(
                f"--replay: scenario {scenario} has no times of its own; give a trace"
            )
        found.append(RequestSource(shape, loaded).fingerprint())
    return found[0] if len(found) == 1 else "+".join(one[:32] for one in found)


def publish(report: Report, records: Sequence[Records], options: Options) -> None:
    """Write the files and print the summary."""
    path = options.output or _default_path(report.created_at)
    if options.records:
        beside = path.with_suffix(".records.npz")
        write_records(records, beside)
        report = report.model_copy(update={"records": beside.name})
    write_report(report, path)
    if options.csv is not None:
        write_csv(report, options.csv)
    if options.prometheus is not None:
        write_prometheus(report, options.prometheus)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(report.model_dump(mode="json")) + b"\n")
    elif not options.quiet:
        print_report(report, Console(width=max(_WIDTH, Console().width)))
    if not options.quiet:
        print(f"written to {path}", file=sys.stderr)


def exit_code(report: Report) -> int:
    """1 when a target was missed, or something got worse, or the client was the limit.

    Also when nothing at all succeeded at a level, unless it was interrupted. A percentile for which
    there were too few requests fails nothing.
    """
    nothing = any(not level.requests.succeeded for level in report.levels)
    limited = any(level.client.limited for level in report.levels)
    missed = any(grade.verdict == "fail" for grade in report.grades)
    worse = any(change.verdict == "worse" for change in report.comparison)
    return int(
        missed or worse or (nothing and not report.interrupted) or (limited and bool(report.grades))
    )


async def _run(options: Options, targets: list[Target], screen: LiveScreen) -> RunResults:
    async with start_worker_pool(options.processes) as pool:
        session = Session(options, targets, pool, screen)
        with interruptible(session):
            await session.run()
        return session.results


def _targets(options: Options) -> list[Target]:
    headers = dict(options.headers)
    if options.api_key:
        headers["authorization"] = f"Bearer {options.api_key}"
    model = options.model or fetch_first_model(options.url, headers)
    targets = [Target(url=options.url, model=model, headers=headers)]
    if options.baseline is not None:
        other = (
            options.baseline_model or options.model or fetch_first_model(options.baseline, headers)
        )
        targets.append(Target(url=options.baseline, model=other, headers=headers))
    return targets


def _comparable_records(old: Report, options: Options, fingerprint: str) -> list[Records] | None:
    """The old report's, where it has some; raises ConfigurationError for another workload."""
    check_comparable(
        old,
        fingerprint=fingerprint,
        stream=options.stream,
        kind=options.kind,
        levels=[(spec.scenario, spec.name) for spec in first_levels(options)],
    )
    if options.compare is None or old.records is None:
        return None
    beside = options.compare.with_name(old.records)
    return read_records(beside) if beside.exists() else None


def _default_path(created_at: datetime) -> Path:
    return Path("results") / f"{created_at.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
