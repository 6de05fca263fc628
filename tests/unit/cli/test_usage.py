"""`maxgate usage` reports usage with names, cost and price, in front of usage in memory."""

import asyncio
import csv
import io
import json
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from time import time

import pytest

from maxgate.auth.organization.projects import create_project
from maxgate.cli.main import main
from maxgate.cli.organization import change
from maxgate.cli.usage_tables import format_csv_cell
from maxgate.composition.usage import open_usage
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.usage_store import open_usage_store
from tests.fakes.rate_cards import DAY
from tests.fakes.usage_lines import make_batch
from tests.fakes.usage_store import FakeUsageStore

START = 20_000 * DAY
DAYS = ("--from", "2024-10-04", "--to", "2024-10-06")
CARDS = '[{"model": "small", "price": {"input": 3000}, "cost": {"input": 1000}}]'

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store() -> FakeUsageStore:
    """Usage of two projects and models on two days."""
    store = FakeUsageStore()
    store.add(START, input_tokens=5, cached_tokens=1, output_tokens=2, gpu_seconds=1.5)
    store.add(START + 1, input_tokens=7, project_id="=1+1", user_id="bob")
    store.add(START + DAY, input_tokens=9, model="large", tags={"a": "b"})
    return store


@pytest.fixture
def run(
    store: FakeUsageStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run `maxgate usage`; return exit code, stdout and stderr."""
    monkeypatch.setenv("MAXGATE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MAXGATE_PRICING__RATE_CARDS", CARDS)
    monkeypatch.setattr("maxgate.composition.usage.open_usage", lambda *_: store)

    def run_command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maxgate", "usage", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    return run_command


def test_table(run: Run) -> None:
    """The table has a row per group, with sums and models without a rate card below."""
    code, out, errors = run("--by", "model", *DAYS)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        [
            "model",
            "requests",
            "input_tokens",
            "cached_tokens",
            "output_tokens",
            "gpu_seconds",
            "cost",
            "price",
            "margin",
        ],
        ["large", "1", "9", "0", "0", "0.0", "0", "0", "0"],
        ["small", "2", "12", "1", "2", "1.5", "0.012", "0.036", "0.024"],
    ]
    assert errors == (
        "Sum: 3 requests, cost 0.012, price 0.036 USD.\n"
        "No rate card in pricing.rate_cards, so no cost: large.\n"
    )


def test_names(run: Run, store: FakeUsageStore) -> None:
    """Projects have their names beside their ids, if the database knows them."""
    project = change(lambda transaction: create_project(transaction, "Research"))
    store.add(START, project_id=project.id)
    _, out, _ = run("--by", "project", "--json", *DAYS)
    assert [(row["project"], row["project_name"]) for row in json.loads(out)] == [
        ("=1+1", None),
        (project.id, "Research"),
        ("red", None),
    ]


def test_width(run: Run) -> None:
    """With a width, there is a row per interval with usage; JSON has exact amounts."""
    _, out, _ = run("--by", "none", "--width", "1d", "--json", *DAYS)
    sums = {"cached_tokens": 1, "output_tokens": 2, "gpu_seconds": 1.5}
    assert json.loads(out) == [
        {
            "start_at": START,
            "end_at": START + DAY,
            "requests": 2,
            "input_tokens": 12,
            **sums,
            "cost": "0.012",
            "price": "0.036",
            "margin": "0.024",
        },
        {
            "start_at": START + DAY,
            "end_at": START + 2 * DAY,
            "requests": 1,
            "input_tokens": 9,
            **dict.fromkeys(sums, 0),
            "cost": "0",
            "price": "0",
            "margin": "0",
        },
    ]


def test_csv(run: Run, tmp_path: Path) -> None:
    """CSV has times as text, and no cell that a spreadsheet would run as a formula."""
    path = tmp_path / "usage.csv"
    code, out, _ = run("--by", "project,user", "--width", "1d", "--csv", str(path), *DAYS)
    assert (code, out) == (0, "")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(r["start_at"], r["project"], r["user"], r["price"]) for r in rows] == [
        ("2024-10-04T00:00:00.000Z", "'=1+1", "bob", "0.021"),
        ("2024-10-04T00:00:00.000Z", "red", "ann", "0.015"),
        ("2024-10-05T00:00:00.000Z", "red", "ann", "0"),
    ]
    _, out, _ = run("--by", "none", "--csv", "-", *DAYS)
    [row] = csv.DictReader(io.StringIO(out))
    assert row["requests"] == "3"
    code, _, errors = run("--csv", str(tmp_path / "none" / "usage.csv"), *DAYS)
    assert (code, errors.split(": ")[-1]) == (2, "No such file or directory\n")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas(start: str) -> None:
    """Text that begins like a formula gets an apostrophe; numbers stay numbers."""
    assert format_csv_cell(f"{start}1") == f"'{start}1"


@pytest.mark.parametrize(
    ("value", "cell"), [({"a": "é\n"}, '{"a": "é\\n"}'), ([], "[]"), (True, "true"), (None, "")]
)
def test_structured_cells(value: object, cell: str) -> None:
    """Tags, decisions and truth values are JSON."""
    assert format_csv_cell(value) == cell
    assert [format_csv_cell(value) for value in ("a=", -5, None)] == ["a=", -5, ""]
    assert format_csv_cell("-0.5", "margin") == "-0.5"


def test_entries(run: Run, store: FakeUsageStore) -> None:
    """Lines of the ledger are found by request, project and time, newest first."""
    store.add(time() - 600, request_id="req_now", project_id="blue")
    _, out, _ = run("entries", "--request", "req_2", "--json")
    [line] = json.loads(out)
    assert (line["tags"], line["finished_at"]) == ({"a": "b"}, "2024-10-05T00:00:00.000Z")
    for arguments, found in (
        (("--last", "1h"), ["req_now"]),
        ((), ["req_now"]),
        (("--from", "2024-10-04", "--limit", "2"), ["req_now", "req_2"]),
        (("--from", "2024-10-04", "--project", "red"), ["req_2", "req_0"]),
    ):
        _, out, _ = run("entries", "--json", *arguments)
        assert [line["request"] for line in json.loads(out)] == found
    _, out, _ = run("entries")
    assert [line.split()[1] for line in out.splitlines()] == ["request", "req_now"]


def test_try_limit(run: Run, store: FakeUsageStore) -> None:
    """A dry run lists who would have been refused, in calendar windows of a time zone."""
    for minute in (29, 31, 59):
        store.add(START + 60 * minute, total_seconds=0.0)
    limit = ("try-limit", "1", "--unit", "requests", *DAYS)
    code, out, errors = run(*limit, "--per", "hour", "--scope", "user")
    assert (code, errors) == (0, "2 of 6 requests of 2 users would have been refused.\n")
    assert [line.split() for line in out.splitlines()] == [
        ["id", "name", "requests", "refused", "refused_percent", "peak"],
        ["ann", "-", "5", "2", "40.0", "1"],
    ]
    _, out, _ = run(*limit, "--per", "hour", "--time-zone", "Asia/Kolkata", "--json")
    [key] = json.loads(out)
    assert (key["id"], key["requests"], key["refused"]) == ("key_1", 6, 3)
    assert key["first_refused"] == "2024-10-04T00:00:00.000Z"
    _, out, _ = run(*limit, "--per", "total", "--scope", "organization", "--model", "large")
    assert len(out.splitlines()) == 1
    _, out, _ = run("try-limit", "0.5", "--unit", "gpu_seconds", "--per", "day", *DAYS, "--json")
    assert [row["peak"] for row in json.loads(out)] == [0.0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smollm2", "0 of 1 request of 1 key would have been refused.\n"),
        ("smollm2-135m-instruct", "0 of 1 request of 1 key would have been refused.\n"),
        ("small", "0 of 2 requests of 1 key would have been refused.\n"),
        ("llama3.3", "0 of 0 requests of 0 keys would have been refused.\n"),
        (
            "nix",
            "Warning: neither a model card nor a request in this time has the model 'nix'; "
            "`maxgate models list` lists the models.\n"
            "0 of 0 requests of 0 keys would have been refused.\n",
        ),
    ],
)
def test_try_limit_of_a_model(run: Run, store: FakeUsageStore, model: str, message: str) -> None:
    """A model counts by its name or alias, and one that nothing has is reported."""
    store.add(START, model="smollm2-135m-instruct")
    limit = ("try-limit", "9", "--unit", "requests", *DAYS)
    code, _, errors = run(*limit, "--model", model)
    assert (code, errors) == (0, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "project,team"), "'team' is not one of project, user, key, model"),
        (("--last", "month"), "'month' is not a duration such as 30d, 12h or 15m"),
        (("--last", "1d", "--from", "2024-10-04"), "write --from or --last, not both"),
        (("--from", "2024-10-04T05:00"), "has no time zone"),
        (("--from", "2024-10-04", "--to", "2024-10-04"), "the beginning is not before the end"),
        (
            ("try-limit", "1", "--unit", "requests", "--per", "none"),
            "only concurrent_requests and tokens_per_request have the window none",
        ),
        (
            ("try-limit", "1", "--unit", "requests", "--time-zone", "Mars"),
            "'Mars' is not a time zone such as Europe/Berlin",
        ),
        (("try-limit", "1.5", "--unit", "requests"), "'1.5' is not a whole number, 0 or more"),
        (("entries", "--request", "req_9"), "the ledger has no request with the id 'req_9'"),
    ],
)
def test_invalid(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """Invalid options are explained, and so is a request that is not found."""
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "")
    assert message in errors


def test_not_recorded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ledger, the setting is named."""
    monkeypatch.setattr("maxgate.composition.usage.open_usage", lambda *_: None)
    code, _, errors = run()
    assert (code, "set usage.enabled (MAXGATE_USAGE__ENABLED)" in errors) == (2, True)


def test_database(
    store: FakeUsageStore, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reads the file of SQLite in the state directory."""

    async def fill() -> None:
        async with aclosing(open_usage_store(DatabaseSettings(), tmp_path)) as database:
            assert await database.append(make_batch("spool", 0, 1, store.entries))

    asyncio.run(fill())
    expected = run(*DAYS), run("entries", *DAYS, "--json")
    monkeypatch.setattr("maxgate.composition.usage.open_usage", open_usage)
    monkeypatch.setenv("MAXGATE_USAGE__ENABLED", "true")
    assert (run(*DAYS), run("entries", *DAYS, "--json")) == expected
