"""The tables and the advice for a pull request."""

from collections.abc import Iterator, Sequence
from typing import Final

from maxgate.report.advice import advise
from maxgate.report.comparison import incomparable
from maxgate.report.runs import Run
from maxgate.report.tables import Table, tables

_MARKS: Final = {"good": "🟢 ", "bad": "🔴 ", "unsure": "🟡 ", "": ""}


def markdown(runs: Sequence[Run], unread: Sequence[str]) -> str:
    """GitHub's Markdown; `unread` are lines about files that could not be read."""
    lines = [f"## Load test: {_cell(', '.join(run.name for run in runs))}", ""]
    notes = [*unread, *incomparable(runs)]
    notes += [f"{run.name}: {warning}" for run in runs for warning in run.report.warnings]
    lines += [f"> **Note** {_cell(note)}" for note in notes]
    lines += [""] * bool(notes)
    for table in tables(runs):
        lines += _table(table)
    lines += ["### Advice", ""]
    given = [advice for run in runs for advice in advise(run)]
    advice = [f"1. **{_cell(one.text)}**  \n   {_cell(one.evidence)}" for one in given]
    lines += advice or ["Nothing in these numbers asks for a change."]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    yield from (f"### {table.title}", "")
    yield "| " + " | ".join(map(_cell, table.columns)) + " |"
    yield "|" + "---|" * len(table.columns)
    for number, row in enumerate(table.rows):
        first, *rest = map(_cell, row)
        yield "| " + " | ".join([_MARKS[table.tone(number)] + first, *rest]) + " |"
    yield ""
    if table.note:
        yield from (f"<sub>{_cell(table.note)}</sub>", "")


def _cell(text: str) -> str:
    # What a report says is text: it must not become markup or end a cell.
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
