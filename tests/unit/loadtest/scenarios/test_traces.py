"""Traces in published formats, their times, and errors in them."""

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import RequestShape, TraceOptions
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.scenario import Scenario

DATA: Final = Path(__file__).parents[3] / "data" / "traces"


def load(path: Path, **options: Any) -> Scenario:
    """The scenario of a trace."""
    trace = TraceOptions(**options)
    return load_scenario(
        RequestShape(scenario=str(path), seed=1, stream=True, max_tokens=8, trace=trace)
    )


def load_text(tmp_path: Path, text: str, **options: Any) -> Scenario:
    """The scenario of a file with this text."""
    path = tmp_path / "trace"
    path.write_text(text)
    return load(path, **options)


def describe(scenario: Scenario, count: int) -> list[tuple[float, int, int | None]]:
    """Departure, prompt length in words and max_tokens of the first requests."""
    found = []
    for index in range(count):
        (turn,) = scenario.conversation(index, Random(index))
        words = len(turn.messages[0]["content"].split())
        departure = round((scenario.arrivals or ())[index], 6)
        found.append((departure, words, turn.fields.get("max_tokens")))
    return found


def refuse(tmp_path: Path, text: str, **options: Any) -> str:
    """The message for a file with this text, without the path."""
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, text, **options)
    return str(caught.value).removeprefix(f"--scenario {tmp_path / 'trace'}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azure-2023.csv", [(0.0, 120, 12), (1.25, 40, 8), (4.5, 64, 30)]),
        ("azure-2024.csv", [(0.0, 200, 5), (0.5, 31, 77), (2.1, 8, 9)]),
        ("burstgpt.csv", [(0.0, 33, 21), (2008.0, 90, 15)]),
        ("burstgpt-sessions.csv", [(0.0, 12, 6), (3.5, 30, 4)]),
        ("mooncake.jsonl", [(0.0, 1100, 20), (0.25, 1030, 30), (0.9, 700, 40)]),
        ("bailian.jsonl", [(0.0, 40, 3), (61.5, 60, 4)]),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_published_formats(
    tmp_path: Path, name: str, expected: list[tuple[float, int, int]], *, compressed: bool
) -> None:
    """The times and lengths of a published format are kept, in plain and gzip files."""
    path = DATA / name
    if compressed:
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress((DATA / name).read_bytes()))
    scenario = load(path)
    assert len(scenario.arrivals or ()) == len(expected)
    assert describe(scenario, len(expected)) == expected


def test_shared_blocks() -> None:
    """Prompts share the blocks that have the same hash IDs, 512 tokens each for Mooncake."""
    scenario = load(DATA / "mooncake.jsonl")
    first, second, third = (
        scenario.conversation(k, Random(k))[0].messages[0]["content"].split() for k in range(3)
    )
    assert first[:1024] == second[:1024]
    assert first[1024:1030] != second[1024:]
    assert first[:512] != third[:512]


def test_shared_blocks_of_bailian() -> None:
    """A block of a Bailian trace has 16 tokens."""
    scenario = load(DATA / "bailian.jsonl")
    first, second = (
        scenario.conversation(k, Random(k))[0].messages[0]["content"].split() for k in range(2)
    )
    assert first[:32] == second[:32]
    assert first[32:40] != second[32:40]


def test_rows_without_blocks(tmp_path: Path) -> None:
    """Rows before and after those with hash IDs have none."""
    rows = [{"timestamp": k, "input_length": 16} for k in range(4)]
    shared = {"hash_ids": [7]}
    text = "\n".join(
        json.dumps(row | (shared if k in {1, 2} else {})) for k, row in enumerate(rows)
    )
    scenario = load_text(tmp_path, text)
    prompts = [scenario.conversation(k, Random(k))[0].messages[0]["content"] for k in range(4)]
    assert prompts[1] == prompts[2]
    assert len(set(prompts)) == 3


def test_summary_of_skipped_rows() -> None:
    """The summary has the rows, duration, rate, lengths and skipped rows."""
    path = DATA / "burstgpt.csv"
    assert load(path).summary == [
        f"{path}: BurstGPT trace: 2 requests over 2,008.0 s, 0.000996 requests/s "
        "(maximum 1 in 1 s)",
        "61.5 input tokens on average (maximum 90), 18.0 output tokens (maximum 21)",
        "rows skipped, Response tokens is 0 (failed requests): 1 of 3",
    ]


def test_summary_of_a_high_rate(tmp_path: Path) -> None:
    """A rate of thousands has all its digits."""
    path = tmp_path / "trace"
    summary = load_text(tmp_path, "time_ms,input_tokens\n0,4\n1,4\n").summary
    assert summary[0] == (
        f"{path}: trace, times in milliseconds: 2 requests over 0.0 s, 2,000 requests/s "
        "(maximum 2 in 1 s)"
    )


def test_unsorted_rows(tmp_path: Path) -> None:
    """Rows are sent in order of time, and the summary says that they were not sorted."""
    scenario = load_text(tmp_path, "time,input_tokens,output_tokens\n9,2,3\n4,5,6\n5,1,1\n")
    assert describe(scenario, 3) == [(0.0, 5, 6), (1.0, 1, 1), (5.0, 2, 3)]
    assert "rows out of order, sorted by time: 1" in scenario.summary


def test_part_of_a_trace() -> None:
    """A part is chosen by the trace's own time and starts at once."""
    scenario = load(DATA / "azure-2024.csv", start=0.2, duration=2.0)
    assert describe(scenario, 2) == [(0.0, 31, 77), (1.6, 8, 9)]
    assert scenario.summary[-1].startswith("part from 0.2 s: 2 requests over 1.6 s")


def test_part_without_requests() -> None:
    """A part without requests is refused with the span of the trace."""
    with pytest.raises(ConfigurationError, match=r"the trace has 3 requests from 0 to 2\.1 s"):
        load(DATA / "azure-2024.csv", start=60)


@pytest.mark.parametrize(
    ("rows", "options", "last"),
    [
        ('{"timestamp": 0, "prompt": "a"}\n{"timestamp": 900, "prompt": "b"}', {}, 900.0),
        ('{"timestamp": 0, "prompt": "a"}\n{"timestamp": 2000, "prompt": "b"}', {}, 2.0),
        ('{"timestamp": 0.0, "prompt": "a"}\n{"timestamp": 2000.5, "prompt": "b"}', {}, 2000.5),
        ('{"timestamp": 0, "prompt": "a"}\n{"timestamp": 900, "prompt": "b"}', {"unit": "ms"}, 0.9),
        ('{"arrival_ms": 0, "input_tokens": 1}\n{"arrival_ms": 50, "input_tokens": 1}', {}, 0.05),
        (
            '{"timestamp": 1700000000, "prompt": "a"}\n{"timestamp": 1700000002, "prompt": "b"}',
            {},
            2.0,
        ),
        (
            '{"timestamp": 1700000000000, "prompt": "a"}\n'
            '{"timestamp": 1700000000250, "prompt": "b"}',
            {},
            0.25,
        ),
        (
            '{"timestamp": "2024-05-10T00:00:00.009930Z", "prompt": "a"}\n'
            '{"timestamp": "2024-05-10T02:00:01+02:00", "prompt": "b"}',
            {},
            0.99007,
        ),
    ],
)
def test_units_of_time(tmp_path: Path, rows: str, options: dict[str, Any], last: float) -> None:
    """The unit comes from the flag, the format, the column's name or the size of the numbers."""
    scenario = load_text(tmp_path, rows, **options)
    assert (scenario.arrivals or ())[-1] == pytest.approx(last, abs=1e-6)


def test_times_with_an_exponent(tmp_path: Path) -> None:
    """A small number, which Python writes as 1e-05, is no ISO time."""
    scenario = load_text(tmp_path, "time,input_tokens,output_tokens\n1e-05,2,3\n1.5e-01,5,6\n")
    assert describe(scenario, 2) == [(0.0, 2, 3), (0.14999, 5, 6)]


def test_named_columns(tmp_path: Path) -> None:
    """Columns with unusual names are given by flag; the delimiter may be a semicolon."""
    text = "when;Prompt size;Reply\n1;20;3\n2;30;4\n"
    columns = {"time": "when", "input": "prompt size", "output": "Reply"}
    assert describe(load_text(tmp_path, text, columns=columns), 2) == [(0.0, 20, 3), (1.0, 30, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "when,size\n1,2\n",
            ":2: no column of times; expected a name such as timestamp, or --trace-columns "
            "time=NAME; found 'when', 'size'",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,3,4\nyesterday,3,4\n",
            ":3: TIMESTAMP: expected a finite number or an ISO 8601 time, got 'yesterday'",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n\n2023-13-16 18:15:46,3,4\n",
            ":3: TIMESTAMP: '2023-13-16 18:15:46' is not an ISO 8601 time (month must be in 1..12)",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n1e308,10,5\n-1e308,10,5\n",
            ":2: Timestamp: expected a time from -1e+15 to 1e+15 s, got 1e+308; correct the row, "
            "or give another unit with --trace-unit",
        ),
        (
            "time_ms,input_tokens\n5,3\n-2e18,3\n",
            ":3: time_ms: expected a time from -1e+18 to 1e+18 ms, got -2e+18; correct the row, "
            "or give another unit with --trace-unit",
        ),
        (
            '{"timestamp": 1e30, "input_length": 3}\n',
            ":1: timestamp: expected a time from -1e+24 to 1e+24 ns, got 1e+30; correct the row, "
            "or give another unit with --trace-unit",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3.5,4\n",
            ":2: ContextTokens: expected a whole number from 0 to 2,000,000, got '3.5'",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3,-4\n",
            ":2: GeneratedTokens: expected a whole number from 0 to 2,000,000, got '-4'",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3\n",
            ":2: 2 values, but the header has 3 columns; the line may be truncated",
        ),
        (
            "time,input_tokens\n2023-11-16 18:15:46,3\n2023-11-16 18:15:46Z,3\n",
            ":3: time: ISO time with a zone after ISO time without a zone: all rows need the "
            "same kind of time",
        ),
        (
            "1,2,3\n4,5,6\n",
            ":1: '1,2,3' has numbers; the first line must have the names of the "
            "columns, such as timestamp,input_length,output_length",
        ),
        (
            "timestamp\r,input_length\n1,5\n",
            ":1: a carriage return inside a line: lines must end with LF or CRLF",
        ),
        (
            "timestamp,input_length\n1,0\n",
            ": no row of 1 can be sent: rows skipped, input_length is 0: 1",
        ),
    ],
)
def test_invalid_rows(tmp_path: Path, text: str, message: str) -> None:
    """An invalid row is refused with its line, column, value and the rule."""
    assert refuse(tmp_path, text) == message


def test_other_format_than_the_flag(tmp_path: Path) -> None:
    """A file in another format than that of the flag is refused with the missing columns."""
    text = "timestamp,input_length\n1,2\n"
    assert refuse(tmp_path, text, format="burstgpt") == (
        ":2: not a BurstGPT trace: no column requesttokens, responsetokens; found 'timestamp', "
        "'input_length'"
    )


def test_damaged_gzip(tmp_path: Path) -> None:
    """A truncated gzip file is refused, not used in part."""
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress((DATA / "burstgpt.csv").read_bytes())[:-12])
    with pytest.raises(ConfigurationError, match="damaged gzip data"):
        load(path)


def test_gzip_bomb(tmp_path: Path) -> None:
    """Data that expands far more than text does is refused."""
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress((b'{"prompt": "' + b"a" * 10_000 + b'"}\n') * 4_000, 9))
    with pytest.raises(ConfigurationError, match="expands to more than 50 times its size"):
        load(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PAR1....", "a Parquet file"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\xff\xfet\x00", "encoded as UTF-16"),
        (b"BZh9....", "bzip2-compressed"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file of another kind is refused by name."""
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason):
        load(path)
