"""The numbers as tables, the same for the terminal, for Markdown and for HTML."""

from collections.abc import Sequence

from maxgate.tools.report.runs import Run
from maxgate.tools.report.tables import judged, measured
from maxgate.tools.report.tables.table import Table


def tables(runs: Sequence[Run]) -> list[Table]:
    """Everything that is known of these runs, grades first; tables without rows are left out."""
    every = [
        judged.grade_card(runs),
        measured.runs_table(runs),
        measured.levels_table(runs),
        measured.latencies_table(runs),
        measured.errors_table(runs),
        judged.grades_table(runs),
        judged.changes_table(runs),
        judged.reported_table(runs, "paired"),
        judged.reported_table(runs, "comparison"),
        judged.drift_table(runs),
    ]
    return [table for table in every if table.rows]
