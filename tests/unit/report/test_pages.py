"""What is written: text, Markdown, a picture, and a page that needs nothing but itself."""

import asyncio
import re
import shutil
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from maxgate.report.charts import picture
from maxgate.report.html import page
from maxgate.report.markdown import markdown
from maxgate.report.runs import Run
from maxgate.report.terminal import show_on
from maxgate.report.units import show, show_percent
from maxgate.results.distribution import Distribution
from maxgate.results.report import Change
from tests.unit.report.examples import level, report

EVIL = "</script><img src=http://evil/x onerror=alert(1)>|`*_"
TWO = [
    Run("before", report(level(1), level(8, failed=20))),
    Run("after", report(level(1, seed=2), level(8, latency=0.5, seed=3), warnings=["swapping"])),
]
# What a run that was interrupted at once leaves behind.
BARE = Run(
    "bare",
    report(
        level(
            8,
            metrics={"latency": Distribution(metric="latency", unit="s", count=0)},
            timeline=[],
            chunks=None,
        ),
        interrupted=True,
    ),
)


def text(*runs: Run) -> str:
    """What the terminal shows."""
    console = Console(file=StringIO(), width=160)
    show_on(console, runs)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_has_charts_grades_changes_and_advice() -> None:
    said = text(*TWO)
    parts = [
        "Latency: requests by seconds, all levels",
        "Latency by percentile",
        "  a  before: concurrency 1",
        "Answers per second",
        "Failed requests by kind",
        "Grades",
        "Changes against before",
        "after: swapping",
        "Advice",
        "http_503: no engine had room",
    ]
    assert [part for part in parts if part not in said] == []
    assert "\x1b" not in said


def test_a_run_that_measured_nothing_is_shown_as_that() -> None:
    said = text(BARE)
    assert "bare (interrupted)" in said
    assert "too few to tell" in said
    assert "figure" not in Elements(page([BARE], [])).names
    assert picture([BARE])[:4] == b"\x89PNG"


def test_what_a_report_says_never_becomes_markup() -> None:
    evil = Run(EVIL, report(level(8, name=EVIL), warnings=[EVIL], command=[EVIL]))
    change = Change(
        metric=EVIL, statistic="p50", level=EVIL, unit="s", before=1, after=2, difference=1,
        interval=None, verdict="worse", reason="",
    )  # fmt: skip
    html = page([evil, Run("b", report(level(8), paired=[change]))], [EVIL])
    elements = Elements(html)
    assert "img" not in elements.names
    assert elements.names.count("script") == 2
    assert "<img" not in markdown([evil], [EVIL]).replace("\\<img", "")
    assert not re.search(r"(?<!\\)\|[`*_]", markdown([evil], [EVIL]))


class Elements(HTMLParser):
    """The elements of a page, and every address in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]


def test_the_page_refers_to_nothing_outside() -> None:
    elements = Elements(page(TWO, ["x.json: the file is empty"]))
    assert elements.addresses == ["data:,"]
    assert elements.names.count("figure") == 6


def test_the_markdown_is_tables_that_hold_together() -> None:
    lines = markdown(TWO, ["x.json: the file is empty"]).splitlines()
    assert lines[:3] == ["## Load test: before, after", "", "> **Note** x.json: the file is empty"]
    blocks = re.split(r"\n(?!\|)", "\n".join(lines))
    for block in (one for one in blocks if one.startswith("|")):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_the_picture_is_a_png() -> None:
    assert picture(TWO)[:8] == b"\x89PNG\r\n\x1a\n"


async def test_chromium_draws_the_page_without_an_error_or_a_request(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    (tmp_path / "page.html").write_text(page(TWO, []))
    log = tmp_path / "net.json"
    process = await asyncio.create_subprocess_exec(
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        f"--log-net-log={log}", "--virtual-time-budget=10000", "--dump-dom",
        (tmp_path / "page.html").as_uri(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    dom = out.decode()
    assert dom.count("<svg") >= 6
    assert [line for line in err.decode().splitlines() if "CONSOLE" in line] == []
    assert _asked_for(log) == set()


def _asked_for(log: Path) -> set[str]:
    """Addresses of the page's own requests; Chromium's are to its maker's servers."""
    events = orjson.loads(log.read_bytes())["events"]
    found = {str(event.get("params", {}).get("url", "")) for event in events}
    return {url for url in found if url.startswith(("http", "ws")) and "google" not in url}


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "s", "-"),
        (123.4, "s", "123 s"),
        (1.234, "s", "1.23 s"),
        (0.4123, "s", "412 ms"),
        (0.0123, "s", "12.3 ms"),
        (0.000123, "s", "0.123 ms"),
        (-0.05, "s", "-50.0 ms"),
        (0.00123, "share", "0.123 %"),
        (1234.5, "/s", "1,234/s"),
        (12.34, "requests/s", "12.3/s"),
        (37.0, "tokens", "37 tokens"),
    ],
)
def test_units(value: float | None, unit: str, shown: str) -> None:
    assert show(value, unit) == shown


def test_changes_have_a_sign() -> None:
    assert (show_percent(0.1234), show_percent(-0.01), show_percent(None)) == (
        "+12.3 %", "-1.0 %", "-",
    )  # fmt: skip
