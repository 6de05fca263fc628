"""MAX's log in that of the gateway."""

import json
from pathlib import Path

import pytest

from maxgate.engine.log_relay import EngineLine, LogRelay, parse_line

# As MAX 26.7 writes them.
JSON = {
    "levelname": "WARNING",
    "message": "slow",
    "request_id": "abc",
    "batch_id": None,
    "timestamp": "2026-11-28T23:00:00+00:00",
}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("04:24:20.330 INFO: Tracing disabled.", EngineLine("info", "Tracing disabled.", {})),
        ("CRITICAL: lost", EngineLine("error", "lost", {})),
        ("\x1b[92m04:24:20.330 ERROR:\x1b[0m broken", EngineLine("error", "broken", {})),
        ('  File "x.py", line 1', EngineLine("warning", '  File "x.py", line 1', {})),
        ("{broken", EngineLine("warning", "{broken", {})),
        (
            json.dumps(JSON),
            EngineLine("warning", "slow", {"engine_request_id": "abc", "batch_id": None}),
        ),
        ('{"levelname": "ODD", "level": 1, "event": 2}', EngineLine("info", "", {})),
    ],
)
def test_lines(line: str, expected: EngineLine) -> None:
    """Lines in JSON and as text have their level; those without one that of the line before."""
    assert parse_line(line, "warning") == expected


def test_appended_lines(tmp_path: Path) -> None:
    """Whole lines are copied once, those of the next start too, and an incomplete one at last."""
    file, lines = tmp_path / "engine.log", list[EngineLine]()
    relay = LogRelay(file, lines.append)
    relay.copy()
    file.write_text("INFO: a\n\nERROR: b\ntraceback\nINFO")
    relay.copy()
    with file.open("a") as log:
        log.write(": c\nlast")
    relay.copy()
    file.rename(tmp_path / "old.log")
    file.write_text("INFO: d\nend")
    relay.copy()
    relay.close()
    assert [(line.level, line.message) for line in lines] == [
        ("info", "a"),
        ("error", "b"),
        ("error", "traceback"),
        ("info", "c"),
        ("info", "last"),
        ("info", "d"),
        ("info", "end"),
    ]
