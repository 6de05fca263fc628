"""Tests of the Markdown output."""

import re

from maxgate.report.markdown import render_markdown
from tests.unit.report.examples import MARKUP, TWO_RUNS, build_malicious_runs


def test_tables_are_valid() -> None:
    """All rows of a table have the same number of cells, below a heading and the notes."""
    lines = render_markdown(TWO_RUNS, ["x.json: the file is empty"]).splitlines()
    assert lines[:6] == [
        "## Load test of small, 2 runs",
        "",
        "http://localhost:8000; short, streamed, at most 20 tokens; closed loop  ",
        "2026-11-23 12:00 UTC; client: 2 cores, Linux  ",
        "",
        "> **Note** x.json: the file is empty",
    ]
    blocks = re.split(r"\n(?!\|)", "\n".join(lines))
    for block in (one for one in blocks if one.startswith("|")):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_markup_in_report_is_escaped() -> None:
    """Markup in the text of a report is escaped."""
    text = render_markdown(build_malicious_runs()[:1], [MARKUP])
    assert "<img" not in text.replace("\\<img", "")
    assert not re.search(r"(?<!\\)\|[`*_]", text)
