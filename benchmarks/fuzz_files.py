"""Damage trace, dataset and report files at random and check how the tools read them.

    python -m benchmarks.fuzz_files --files 5000 [--seed 0] [--kind traces] [--keep DIR]

Each file must be read or refused in one line: no traceback, at most 5 s of CPU time and 1 GB of
memory, and no output file that is not complete. The scripts that are the same in all pages are
bundled before, once per process. Exits with 1 if a file breaks a rule; `--keep` saves such files.
"""

import argparse
import contextlib
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import orjson

from benchmarks.fuzz_samples import damage, write_samples
from maxgate.errors import ConfigurationError, MaxgateError
from maxgate.loadtest.analysis.comparison import check_comparable, compare
from maxgate.loadtest.cli import main as run_load_test_command
from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource
from maxgate.report.cli import main as run_report_command
from maxgate.report.html import bundle_scripts
from maxgate.results.files import read_report
from maxgate.results.records import read_report_records

MAX_SECONDS: Final = 5.0
MAX_BYTES: Final = 10**9
_ALARM_SECONDS: Final = 30


class Incomplete(Exception):
    """An output file is not complete."""


@dataclass(frozen=True)
class Case:
    """One damaged file, as read by one tool."""

    name: str
    path: Path
    read: Callable[[Path], str]
    """Returns `read` or `refused`; raises anything else for a broken rule."""


def read_as_scenario(path: Path) -> str:
    """Load the file as `--scenario` and build its first requests."""
    shape = RequestShape(scenario=str(path), seed=1, stream=True, max_tokens=8)
    try:
        source = RequestSource(shape, load_scenario(shape))
    except ConfigurationError as error:
        return _check_message(str(error))
    for index in range(3):
        for turn in source.conversation(index):
            source.body(turn, index, model="m")
    return "read"


def show_report(path: Path) -> str:
    """Run `maxgate report` with all outputs except the image."""
    html, markdown = path.with_suffix(".html"), path.with_suffix(".md")
    arguments = [str(path), "--html", str(html), "--markdown", str(markdown)]
    outcome = _run(run_report_command, arguments)
    if html.exists() and not html.read_bytes().rstrip().endswith(b"</html>"):
        raise Incomplete(html.name)
    return outcome


def draw_report(path: Path) -> str:
    """Run `maxgate report` with an image."""
    image = path.with_suffix(".png")
    outcome = _run(run_report_command, [str(path), "--quiet", "--png", str(image)])
    if image.exists() and not image.read_bytes().endswith(b"IEND\xaeB`\x82"):
        raise Incomplete(image.name)
    return outcome


def merge_reports(path: Path) -> str:
    """Merge the damaged shard, or the shard of damaged records, with the intact other one."""
    output = path.parent / "merged.json"
    damaged = path if path.suffix == ".json" else path.parent / "1.json"
    intact = path.parent / "0.json"
    outcome = _run(run_load_test_command, ["merge", str(intact), str(damaged), "-o", str(output)])
    if output.exists():
        orjson.loads(output.read_bytes())
    return outcome


def compare_reports(path: Path) -> str:
    """Compare an intact run with the damaged one, as `--compare` does."""
    damaged = path if path.suffix == ".json" else path.parent / "1.json"
    intact = path.parent / "0.json"
    new = read_report(intact)
    try:
        old = read_report(damaged)
        levels = [(level.scenario, level.name) for level in new.levels]
        check_comparable(
            old,
            fingerprint=new.workload.fingerprint,
            stream=new.workload.stream,
            kind=new.load.kind,
            levels=levels,
        )
        records = read_report_records(old, damaged) if old.records else None
    except ConfigurationError as error:
        return _check_message(str(error))
    compare(old, new, records, read_report_records(new, intact), seed=1)
    return "read"


def _run(command: Callable[[list[str], str], None], arguments: list[str]) -> str:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            command(arguments, "tool")
        except SystemExit as exit_:
            code = exit_.code
    if not code or (code == 1 and output.getvalue()):
        return "read"
    return _check_message(errors.getvalue().strip())


def _check_message(message: str) -> str:
    if not message or "\n" in message or len(message) > 2000:
        raise Incomplete(f"message {message[:300]!r}")
    return "refused"


READERS: Final = {
    "traces": [read_as_scenario],
    "reports": [show_report, merge_reports, compare_reports],
    "records": [merge_reports, compare_reports],
    "images": [draw_report],
}


def create_cases(kinds: list[str], count: int, folder: Path, rng: Random) -> Iterator[Case]:
    """Write and yield damaged files, `count` in all."""
    samples = write_samples(folder)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        sample = rng.choice(samples["reports" if kind == "images" else kind])
        path = sample.damaged_path(folder, number)
        name, content = damage(sample.content, rng, structured=sample.structured)
        path.write_bytes(content)
        reader = rng.choice(READERS[kind])
        yield Case(f"{sample.name}, {name}, {reader.__name__}", path, reader)


def run_case(case: Case) -> tuple[str, float]:
    """The outcome and the CPU seconds it took; a broken rule is a line with its reason."""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, _ALARM_SECONDS)
    try:
        outcome = case.read(case.path)
    except MaxgateError as error:
        outcome = f"wrong error: {error}"
    except BaseException as error:  # noqa: BLE001  # the subject of the measurement
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__} at {where.filename}:{where.lineno}: {str(error)[:120]}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - began
    if seconds > MAX_SECONDS and outcome in {"read", "refused"}:
        outcome = f"took {seconds:.1f} s"
    return outcome, seconds


def _raise_timeout(*_: object) -> None:
    raise TimeoutError(f"took more than {_ALARM_SECONDS} s of CPU time")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _prepare(kinds: list[str]) -> None:
    signal.signal(signal.SIGPROF, _raise_timeout)
    np.seterr(all="ignore")
    if "reports" in kinds:
        bundle_scripts()


def fuzz(kinds: list[str], count: int, seed: int, keep: Path | None) -> int:
    """Run all cases, print the outcomes, and return the number of broken rules."""
    _prepare(kinds)
    outcomes: Counter[str] = Counter()
    slowest, slowest_name, broken = 0.0, "", 0
    with tempfile.TemporaryDirectory(prefix="fuzz-files-") as folder:
        for case in create_cases(kinds, count, Path(folder), Random(seed)):
            before = _peak_bytes()
            outcome, seconds = run_case(case)
            if before <= MAX_BYTES < _peak_bytes():
                outcome = f"needed {_peak_bytes() / 1e9:.1f} GB"
            outcomes[outcome if outcome in {"read", "refused"} else "broken"] += 1
            if seconds > slowest:
                slowest, slowest_name = seconds, case.name
            if outcome not in {"read", "refused"}:
                broken += 1
                print(f"{case.name}: {outcome}", flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / case.path.name).write_bytes(case.path.read_bytes())
            if drafts := list(Path(folder).glob(".*.part")):
                print(f"{case.name}: left {drafts[0].name}")
                broken += 1
                drafts[0].unlink()
            for path in case.path.parent.glob(f"{case.path.stem}.*"):
                path.unlink()
    numbers = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.items())
    print(f"{count} files of {', '.join(kinds)}: {numbers}")
    print(f"peak memory {_peak_bytes() / 1e6:.0f} MB, slowest {slowest:.2f} s ({slowest_name})")
    return broken


def main() -> None:
    """Parse the flags and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=sorted(READERS))
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    kinds = options.kind or ["traces", "reports", "records"]
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(1 if fuzz(kinds, options.files, options.seed, options.keep) else 0)


if __name__ == "__main__":
    main()
