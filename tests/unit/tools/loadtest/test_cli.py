"""What is asked for in vain is refused before anything is sent."""

import pytest

from maxgate.tools.loadtest.cli import main


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--rate", "x"), "--rate x: expected numbers above 0"),
        (("--rate", "5", "-c", "5"), "--rate and --concurrency: "),
        (("--duration", "soon"), "--duration soon: expected a time"),
        (("--slo", "speed=1"), "--slo speed=1: expected METRIC=TIME"),
        (("--target", "p42=1"), "--target p42=1: expected p50"),
        (("--scenario", "none.yaml"), "--scenario none.yaml: neither a file nor one of"),
        (("--shard", "2/2"), "--shard 2/2: expected I/N"),
        (("--header", "x"), "--header 'x': expected NAME: VALUE"),
        (("--body", "[]"), "--body: expected an object"),
        (("--url", "ftp://h"), "--url ftp://h: expected http://host:port"),
        (("--start-at", "noon"), "--start-at noon: expected"),
        (("--replay",), "--replay: scenario short has no times of its own"),
    ],
)
def test_flags_that_cannot_work_get_one_line(
    flags: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["load_test.py", *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr().err
    assert ended.value.code == 2
    assert output.startswith(f"load_test.py: {said}")
    assert output.count("\n") == 1
