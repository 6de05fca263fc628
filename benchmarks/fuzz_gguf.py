"""Prepare thousands of damaged GGUF files, and report each that is not refused as it should be.

    python -m benchmarks.fuzz_gguf [--files 10000] [--seed 1] [--processes 2]

Each file is a small Llama model of one of several encodings, one of them split, with one kind of
random damage. `maxgate models prepare` runs on it in a process with 3 GB of address space. Allowed
are a refusal in one line that leaves nothing behind, and a model whose files fit together
(tests/oracles/prepared.py). Exits with 1 after any other outcome: a traceback, more than 5 s, more
than 1 GB of memory, files left behind, or a model that contradicts itself.

Damage to values that remain plausible, such as a letter of a name, cannot be detected without a
checksum, which GGUF does not have. The report counts the models whose settings changed that way.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from maxgate.cli.prepare import prepare
from maxgate.errors import MaxgateError
from maxgate.model_cards.loader import load_cards
from tests.fakes.gguf_damage import DAMAGES, count_header_bytes, write_sources
from tests.oracles.prepared import check_prepared

MAX_SECONDS: Final = 5.0
MAX_BYTES: Final = 10**9
_ADDRESS_SPACE: Final = 3 * 10**9
_PER_PROCESS: Final = 250


class HangError(BaseException):
    """Raised in a preparation that takes too long; not an Exception, so that nothing catches it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one damaged file: `accepted`, `refused` or a fault."""

    number: int
    damage: str
    kind: str
    detail: str
    seconds: float
    peak_bytes: int
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """Damaged files to prepare: those of a range of seeds."""

    numbers: range
    sources: Path


def run_job(job: Job) -> list[Outcome]:
    """Prepare the files of a job, in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    files = sorted(job.sources.glob("*.gguf"))
    headers = {file: count_header_bytes(file) for file in files}
    plain = {file: _prepare_sound(file) for file in files}
    return [_try_one(number, headers, plain) for number in job.numbers]


def _prepare_sound(file: Path) -> dict[str, Any]:
    with _workplace() as folder:
        for part in file.parent.glob(f"{file.stem.split('-0')[0]}*.gguf"):
            shutil.copyfile(part, folder / part.name)
        prepare(str(folder / file.name), out="model")
        return check_prepared(folder / "cache" / "models" / "model")


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAXGATE_CACHE_DIR"] = str(Path(folder, "cache"))
        Path(folder, "cache", "models").mkdir(parents=True)
        yield Path(folder)


def _try_one(number: int, headers: dict[Path, int], plain: dict[Path, Any]) -> Outcome:
    draw = random.Random(number)
    source, damage = draw.choice(list(headers)), DAMAGES[number % len(DAMAGES)]
    content = bytearray(source.read_bytes())
    damage(draw, content, headers[source])
    with _workplace() as folder:
        for part in source.parent.glob(f"{source.stem.split('-0')[0]}*.gguf"):
            shutil.copyfile(part, folder / part.name)
        (folder / source.name).write_bytes(content)
        began = time.perf_counter()
        kind, detail = _prepare_damaged(folder / source.name)
        seconds = time.perf_counter() - began
        models, changed = folder / "cache" / "models", tuple[str, ...]()
        left = sorted(path.name for path in models.iterdir())
        if kind == "refused" and left:
            kind, detail = "half-written", ", ".join(left)
        elif kind == "accepted":
            kind, detail, changed = _judge(models, left, plain[source])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Outcome(number, damage.__name__, kind, detail, seconds, peak, changed)


def _prepare_damaged(file: Path) -> tuple[str, str]:
    def interrupt(*_: object) -> NoReturn:
        raise HangError

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        # Without the bundled cards, which take longer to load than the file.
        prepare(str(file), out="model", card=[file.parent / "cache" / "models"])
    except MaxgateError as error:
        lines = str(error).splitlines()
        return ("refused", lines[0]) if len(lines) == 1 else ("unclear", str(error))
    except HangError:
        return "hang", ""
    except BaseException:  # noqa: BLE001  # SystemExit is a fault as well
        return "traceback", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "accepted", ""


def _judge(
    models: Path, left: list[str], plain: dict[str, Any]
) -> tuple[str, str, tuple[str, ...]]:
    if left != ["model", "model.yaml"]:
        return "half-written", ", ".join(left), ()
    try:
        found = check_prepared(models / "model")
        load_cards([models / "model.yaml"])
    except Exception:  # noqa: BLE001  # whatever the libraries raise
        return "inconsistent", traceback.format_exc(), ()
    changed = {
        f"{file}: {key}"
        for file, content in found.items()
        for key in content
        if json.dumps(content[key]) != json.dumps(plain[file].get(key))
    }
    return "accepted", "", tuple(sorted(changed))


def report(outcomes: list[Outcome]) -> bool:
    """Print the counts and the faults; returns whether there are none."""
    kinds = Counter((outcome.damage, outcome.kind) for outcome in outcomes)
    names = sorted({outcome.kind for outcome in outcomes})
    print(f"{'damage':20}" + "".join(f"{name:>14}" for name in names))
    for damage in (function.__name__ for function in DAMAGES):
        print(f"{damage:20}" + "".join(f"{kinds[damage, name]:14}" for name in names))
    totals = Counter(outcome.kind for outcome in outcomes)
    print(f"{'all':20}" + "".join(f"{totals[name]:14}" for name in names))
    slowest = max(outcome.seconds for outcome in outcomes)
    peak = max(outcome.peak_bytes for outcome in outcomes)
    print(f"slowest: {slowest:.2f} s; peak memory: {peak / 1e6:.0f} MB")
    changed = Counter(name for outcome in outcomes for name in outcome.changed)
    with_changes = sum(1 for outcome in outcomes if outcome.changed)
    print(f"accepted with other, plausible settings: {with_changes}")
    for name, count in changed.most_common():
        print(f"    {count:5} {name}")
    faults = [outcome for outcome in outcomes if outcome.kind not in {"accepted", "refused"}]
    for fault in faults[:20]:
        print(f"\n{fault.kind}: --seed {fault.number} --files 1 ({fault.damage})\n{fault.detail}")
    return not faults and slowest <= MAX_SECONDS and peak <= MAX_BYTES


def main() -> None:
    """Prepare the files and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first file")
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    arguments = parser.parse_args()
    first, end = arguments.seed, arguments.seed + arguments.files
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        jobs = [
            Job(range(start, min(start + _PER_PROCESS, end)), Path(folder))
            for start in range(first, end, _PER_PROCESS)
        ]
        context = multiprocessing.get_context("spawn")
        with context.Pool(arguments.processes, maxtasksperchild=1) as pool:
            outcomes = []
            for done in pool.imap_unordered(run_job, jobs):
                outcomes += done
                print(f"{len(outcomes):,} of {arguments.files:,}", file=sys.stderr, flush=True)
    sys.exit(not report(outcomes))


if __name__ == "__main__":
    main()
