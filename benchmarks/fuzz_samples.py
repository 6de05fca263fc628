"""Intact files of every format that the tools read, and random damage to them."""

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import orjson

from maxgate.loadtest.analysis.level_report import LevelPlan, build_level
from maxgate.loadtest.client.request_record import RequestRecord, build_records
from maxgate.loadtest.options import Options
from maxgate.loadtest.report_builder import build_report
from maxgate.loadtest.session import RunResults
from maxgate.results.files import write_report
from maxgate.results.records import Records, write_records
from maxgate.results.report import DESIGN_TARGETS, Saturation

TRACES: Final = Path(__file__).parents[1] / "tests" / "data" / "traces"

_EXTREME_TEXTS: Final = (
    b"-1 0 1e308 -1e308 1e999 NaN Infinity 99999999999999999999 9223372036854775808 0.1 null true "
    b'"" [] {} "x" 2024-02-30 2024-02-29T25:61:61 0001-01-01 9999-12-31T23:59:59-12:00 \xff\xfe '
    b'\x00 \xef\xbb\xbf \xc3 "\\ud800" , ; \t " \r \n'
).split(b" ")
_EXTREME_VALUES: Final[tuple[Any, ...]] = (
    -1, 0, 1, 2**31, 2**53, 2**63, 1e15, 1e308, -1e308, 5e-324, None, True, "", "x" * 5000,
    "\x1b[2J", "<script>", [], {}, [[]], [None], {"a": 1}, "2024-02-30T00:00:00Z", "50",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """An intact file."""

    name: str
    content: bytes
    structured: bool = False
    """Whether it is one JSON object or an `.npz` archive, whose values can be changed."""

    def damaged_path(self, folder: Path, number: int) -> Path:
        """Where to write a damaged copy, with the suffixes of the sample."""
        _, dot, suffixes = self.name.partition(".")
        if suffixes == "records.npz":
            # The intact report 1.json names this file.
            return folder / self.name
        return folder / f"damaged{number}{dot}{suffixes}"


def write_samples(folder: Path) -> dict[str, list[Sample]]:
    """All samples by kind; also writes the reports 0.json and 1.json with raw records."""
    traces = [Sample(path.name, path.read_bytes()) for path in sorted(TRACES.iterdir())]
    traces += [Sample(name, content) for name, content in _create_datasets().items()]
    traces += [Sample(f"{one.name}.gz", gzip.compress(one.content)) for one in traces]
    for shard in range(2):
        _write_report(folder, shard)
    reports = [Sample("1.json", (folder / "1.json").read_bytes(), structured=True)]
    raw = (folder / "1.records.npz").read_bytes()
    return {
        "traces": traces,
        "reports": reports,
        "records": [Sample("1.records.npz", raw, structured=True)],
    }


def _create_datasets() -> dict[str, bytes]:
    parts = [{"from": who, "value": f"text {who}"} for who in ("system", "human", "gpt", "human")]
    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
    batch = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat}
    timed = [{"timestamp": f"2024-05-1{k}T00:00:00.5Z", "prompt": "a"} for k in range(3)]
    lines = [[chat, {"prompt": "b"}, chat["messages"]], [batch, batch], timed]
    made = {f"d{k}.jsonl": b"\n".join(map(orjson.dumps, one)) for k, one in enumerate(lines)}
    made["sharegpt.json"] = orjson.dumps([{"id": "x", "conversations": parts}] * 4)
    made["scenario.yaml"] = b"requests:\n  - synthetic: {low: 3, high: 9}\n    shared_prefix: 4\n"
    return made


def _write_report(folder: Path, shard: int) -> None:
    """A sharded run of two levels with 60 requests each."""
    options = Options(scenarios=("short",), concurrency=(4, 8), shard=(shard, 2), duration=6.0)
    options = replace(options, targets=DESIGN_TARGETS, objectives={"ttft": 0.1})
    results = RunResults(saturation=Saturation(found=True, level="concurrency 4", reason="x"))
    for concurrency in (4, 8):
        records = _create_records(Random(concurrency + shard))
        plan = LevelPlan(
            name=f"concurrency {concurrency}",
            scenario="short",
            side="target",
            started_at=datetime(2030, 1, 1, tzinfo=UTC),
            wall=10.0,
            cpu=0.2,
            stream=True,
            scheduled=False,
            concurrency=concurrency,
            objectives=options.objectives,
        )
        results.records.append(records)
        results.levels.append(build_level(plan, records))
    report = build_report(options, results, command=["x"], models=["m"], fingerprint="f" * 64)
    path = folder / f"{shard}.json"
    write_records(results.records, path.with_suffix(".records.npz"))
    write_report(report.model_copy(update={"records": f"{shard}.records.npz"}), path)


def _create_records(rng: Random) -> Records:
    made = []
    for index in range(60):
        sent = 1.0 + index / 10
        one = RequestRecord(index, stream=True, scheduled=sent)
        one.sent, one.status = sent, 200
        ends = [sent + rng.uniform(0.01, 0.02) * (k + 1) for k in range(5)]
        one.first_byte = one.first_event = ends[0]
        one.outputs.extend(ends)
        one.arrival_uncertainty.extend([0.0] * 5)
        one.chunks = one.output_tokens = 5
        one.ended, one.input_tokens = ends[-1], 10
        made.append(one)
    return build_records(made, start=0.0, worker=0)


def damage(content: bytes, rng: Random, *, structured: bool) -> tuple[str, bytes]:
    """Damage the content once or several times; returns the kinds of damage."""
    kinds: list[str] = []
    if structured and rng.random() < 0.7:
        change = _change_arrays if content.startswith(b"PK") else _change_json
        return change.__name__.strip("_"), change(content, rng)
    packed = content.startswith(b"\x1f\x8b")
    if packed and rng.random() < 0.6:
        content = gzip.decompress(content)
    else:
        packed = False
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        change_bytes = rng.choice(_DAMAGES)
        kinds.append(change_bytes.__name__.strip("_"))
        content = change_bytes(content, rng)
    return "+".join(kinds), gzip.compress(content, 1) if packed else content


def _flip_bits(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete_range(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice([1, 2, 10, 100]) :]


def _repeat_range(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    part = content[start : start + rng.choice([1, 5, 50])]
    return content[:start] + part * rng.choice([2, 100, 20_000]) + content[start:]


def _insert_extreme(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(_EXTREME_TEXTS) + content[start:]


def _replace_field(content: bytes, rng: Random) -> bytes:
    """Replace the text between two separators by an extreme value."""
    separators = [k for k, byte in enumerate(content) if byte in b',:[]{}\n"']
    if len(separators) < 2:
        return content
    k = rng.randrange(len(separators) - 1)
    start, end = separators[k] + 1, separators[k + 1]
    return content[:start] + rng.choice(_EXTREME_TEXTS) + content[end:]


def _nest(_: bytes, rng: Random) -> bytes:
    opening = rng.choice([b"[", b'{"a":', b'[{"conversations":', b'{"timestamp":'])
    return opening * rng.choice([500, 2000, 200_000])


def _inflate(content: bytes, rng: Random) -> bytes:
    """A gzip bomb of zeros, of lines, or of one record over and over."""
    unit = rng.choice([b"\0", b"\n", b"[", b"[],", content[:5000], b'{"prompt":"a"}\n', b"1,2,3\n"])
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = unit * (2**20 // max(1, len(unit)))
    made = [packer.compress(content[: rng.choice([0, len(content)])])]
    made += [packer.compress(block) for _ in range(rng.choice([20, 150]))]
    return b"".join([*made, packer.flush()])


_DAMAGES: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    *(_flip_bits, _truncate, _delete_range, _repeat_range) * 6,
    *(_insert_extreme, _replace_field) * 12,
    _nest,
    _inflate,
)


def _change_json(content: bytes, rng: Random) -> bytes:
    """Replace, delete or repeat random values of a JSON object."""
    data = orjson.loads(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        # Most of the values that matter are in the levels.
        levels = data.get("levels")
        node = levels if isinstance(levels, list) and levels and rng.random() < 0.7 else data
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.9:
                node = node[key]
                continue
            choice = rng.random()
            if choice < 0.75:
                node[key] = _choose_value(node[key], rng)
            elif choice < 0.9 or isinstance(node, dict):
                del node[key]
            else:
                node += [node[key]] * rng.choice([1, 50])
            break
    return orjson.dumps(data, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def _choose_value(old: Any, rng: Random) -> Any:
    if isinstance(old, int | float) and abs(old) < 10**15 and rng.random() < 0.8:
        return rng.choice([-old, old * 1000, old + 1, old / 3, int(old), 0, -1, 1e14, 1e-300])
    return rng.choice(_EXTREME_VALUES)


def _change_arrays(content: bytes, rng: Random) -> bytes:
    """Change the values, type, shape or presence of one array of an `.npz` archive."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    array = arrays[name]
    changed: list[Callable[[], Any]] = [
        lambda: array[:-1],
        lambda: np.concatenate([array, array]),
        lambda: array[:0],
        lambda: array.reshape(1, -1),
        lambda: array.astype(rng.choice(["f4", "i1", "U8", "c16", "?", "S3"])),
        lambda: np.full_like(array, rng.choice([-1, 0, 1, 2**31])),
        lambda: np.full(len(array), rng.choice([np.nan, np.inf, -np.inf, 1e300, -5.0])),
        lambda: np.zeros(200_000_000 // 8),
        lambda: np.array(3),
    ]
    with np.errstate(all="ignore"):
        try:
            arrays[name] = rng.choice(changed)()
        except (ValueError, TypeError, OverflowError):
            del arrays[name]
    output = io.BytesIO()
    np.savez_compressed(output, allow_pickle=False, **arrays)
    return output.getvalue()
