"""Render tables and advice as GitHub Markdown, for a pull request."""

from collections.abc import Iterator, Sequence
from typing import Final

from maxgate.report.advice import NO_ADVICE, advise
from maxgate.report.headings import build_subtitle, build_title, list_warnings
from maxgate.report.result_tables import Table
from maxgate.report.runs import Run, explain_incomparable
from maxgate.report.tables import build_tables

_MARKERS: Final = {"good": "🟢 ", "bad": "🔴 ", "unsure": "🟡 ", "": ""}


def render_markdown(runs: Sequence[Run], unread: Sequence[str]) -> str:
    """Render the runs; `unread` has an error line per unreadable file."""
    lines = [f"## {_escape(build_title(runs))}", ""]
    lines += [f"{_escape(line)}  " for line in build_subtitle(runs)] + [""]
    notes = [*unread, *explain_incomparable(runs), *list_warnings(runs)]
    lines += [f"> **Note** {_escape(note)}" for note in notes]
    lines += [""] * bool(notes)
    first, rest = build_tables(runs)
    for table in (*first, *rest):
        lines += _render_table(table)
    lines += ["### Advice", ""]
    advice = [
        f"1. **{_escape(one.text)}**  \n   {_escape(one.evidence)}"
        for run in runs
        for one in advise(run)
    ]
    lines += advice or [NO_ADVICE]
    return "\n".join(lines) + "\n"


def _render_table(table: Table) -> Iterator[str]:
    yield from (f"### {table.title}", "")
    yield "| " + " | ".join(map(_escape, table.columns)) + " |"
    yield "|" + "".join("---:|" if one in table.numbers else "---|" for one in table.columns)
    for number, row in enumerate(table.rows):
        first, *rest = map(_escape, row)
        yield "| " + " | ".join([_MARKERS[table.tone(number)] + first, *rest]) + " |"
    yield ""
    if table.note:
        yield from (f"<sub>{_escape(table.note)}</sub>", "")


def _escape(text: str) -> str:
    """Escape text from a report, so that it adds no markup and cannot end a table cell."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
