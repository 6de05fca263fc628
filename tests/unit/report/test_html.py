"""Tests of the HTML page: self-contained, free of injected markup, and drawn by a browser."""

import asyncio
import shutil
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from typing_extensions import override

from maxgate.report.html import render_html
from tests.unit.report.examples import EMPTY_RUN, MARKUP, TWO_RUNS, build_malicious_runs


class Elements(HTMLParser):
    """Collects the element names and addresses in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str | None] = []
        self.feed(html)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]


def test_no_external_references() -> None:
    """The page refers to no other file and has all twelve charts."""
    elements = Elements(render_html(TWO_RUNS, ["x.json: the file is empty"]))
    assert elements.addresses == ["data:,"]
    assert elements.names.count("figure") == 12


def test_empty_run_has_no_charts() -> None:
    """A run without measurements gives a page without charts."""
    assert "figure" not in Elements(render_html([EMPTY_RUN], [])).names


def test_page_follows_the_theme() -> None:
    """The page has styles for dark screens, print and phones, and one legend per section."""
    page = render_html(TWO_RUNS, [])
    wanted = ["prefers-color-scheme: dark", "@media print", "max-width: 600px", "initial-scale=1"]
    assert [part for part in wanted if part not in page] == []
    assert page.count('<p class="legend">') == 3
    specs = page.partition('id="charts">')[2].partition("</script>")[0]
    assert '"legend":{' not in specs


def test_markup_in_report_is_escaped() -> None:
    """Markup in the text of a report adds no elements to the page."""
    elements = Elements(render_html(build_malicious_runs(), [MARKUP]))
    assert "img" not in elements.names
    assert elements.names.count("script") == 2


async def test_chromium_draws_charts(tmp_path: Path) -> None:
    """Chromium draws all charts without console messages or network requests."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    (tmp_path / "page.html").write_text(render_html(TWO_RUNS, []))
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
    assert dom.count("<svg") >= 12
    assert [line for line in err.decode().splitlines() if "CONSOLE" in line] == []
    # Chromium itself connects to servers of its vendor.
    events = orjson.loads(log.read_bytes())["events"]
    urls = {str(event.get("params", {}).get("url", "")) for event in events}
    assert {url for url in urls if url.startswith(("http", "ws")) and "google" not in url} == set()
