"""Reports side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxgate.results.files import ReportError, read_report
from maxgate.results.report import Level, Report


@dataclass(frozen=True, slots=True)
class Run:
    """A report and the name that it goes by here."""

    name: str
    report: Report

    def series(self) -> Iterator[tuple[str, Level]]:
        """Its levels, each with a name that is its own among all that is shown."""
        for level in self.report.levels:
            side = " baseline" if level.side == "baseline" else ""
            scenario = f" {level.scenario}" if len(self.report.workload.scenarios) > 1 else ""
            yield f"{self.name}:{scenario} {level.name}{side}", level


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The reports in these files, oldest first, and a line for each file that cannot be read.

    A file that is given twice is read once. A run goes by its file's name, and where two have the
    same, by their paths.
    """
    runs: list[Run] = []
    errors: list[str] = []
    unique = list(dict.fromkeys(paths))
    for path in unique:
        same = sum(other.stem == path.stem for other in unique) > 1
        try:
            runs.append(Run(str(path.with_suffix("")) if same else path.stem, read_report(path)))
        except ReportError as error:
            errors.append(str(error))
    return sorted(runs, key=lambda run: run.report.created_at), errors
