"""Validation of flags before the first request."""

from typing import Literal

import pytest

from maxgate.loadtest.cli import main
from maxgate.loadtest.flag_values import parse_targets
from maxgate.results.report import DESIGN_TARGETS


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rate", "x"), "--rate x: expected numbers above 0 and up to 1,000,000, in digits"),
        (("--rate", "1e9"), "--rate 1e9: expected numbers above 0 and up to 1,000,000"),
        (("--rate", "1000001"), "--rate 1000001: expected numbers above 0 and up to 1,000,000"),
        (
            ("-c", "99999999999"),
            "--concurrency 99999999999: expected whole numbers from 1 to 1,000,000",
        ),
        (("--rate", "5", "-c", "5"), "--rate and --concurrency exclude each other: "),
        (("--duration", "soon"), "--duration soon: expected a time"),
        (("--tokenizer", "nope"), "--tokenizer nope: No such file or directory"),
        (("--slo", "speed=1"), "--slo speed=1: expected METRIC=TIME"),
        (("--target", "p42=1"), "--target p42=1: expected p50"),
        (("--scenario", "none.yaml"), "--scenario none.yaml: not a file, nor one of"),
        (("--shard", "2/2"), "--shard 2/2: expected I/N"),
        (("--header", "x"), "--header 'x': expected NAME: VALUE"),
        (("--body", "[]"), "--body: expected a JSON object"),
        (("--url", "ftp://h"), "--url ftp://h: expected http://host:port"),
        (("--start-at", "noon"), "--start-at noon: expected"),
        (("--start-at", "nan"), "--start-at nan: expected"),
        (("--start-at", "1e300"), "--start-at 1e300: expected"),
        (("--timeout", "1000001h"), "--timeout 1000001h: expected at most 1,000,000h"),
        (("--duration", "0"), "--duration, --soak and --timeout must be above 0"),
        (("--timeout", "0s"), "--duration, --soak and --timeout must be above 0"),
        (("--soak", ""), "--soak : expected a time"),
        (("--header", "a b: c"), "--header 'a b: c': expected NAME: VALUE"),
        (("--header", "Authorization Bearer k"), "--header '***': expected NAME: VALUE"),
        (("--header", "x: \u00e9"), "--header 'x: \u00e9': expected NAME: VALUE"),
        (("--target", "throughput=nan"), "--target throughput=nan: expected a number"),
        (("--target", "p95=soon"), "--target p95=soon: expected a time"),
        (("--arrivals", "poisson"), "--arrivals poisson needs --rate"),
        (("--replay", "--speed", "inf"), "--speed inf: expected a number from 0.001 to 1,000,000"),
        (("--replay", "--speed", "nan"), "Invalid value for '--speed': "),
        (("--speed", "2"), "--speed needs --replay"),
        (("--baseline-model", "m"), "--baseline-model needs --baseline"),
        (("--nothing",), "No such option: --nothing"),
        (("--dataset-name", "random"), "--dataset-name: not a flag of this tool; --scenario takes"),
        (("--request-rate", "inf"), "--request-rate inf: use --concurrency for as many"),
        (("--rate", "inf"), "--rate inf: use --concurrency for as many"),
        (("-q", "5"), "-q 5: -q means --quiet here; use --rate 5"),
        (("-u", "10"), "-u: not a flag of this tool; use --url for the server, or --concurrency"),
        (("--max_errors", "3"), "--max-errors: not a flag of this tool; a run in which every"),
        (("prompts.jsonl",), "prompts.jsonl: not a URL; a server is given as http://host:port, "),
        (("--target", "http://h:1"), "--target: the server is --url; --target sets limits"),
        (("--port", "x"), "--port x: expected a number"),
        (("localhost:8000", "--url", "ftp://h"), "--url ftp://h: expected http://host:port"),
        (("--processes", "0"), "Invalid value for '--processes'"),
        (("--output", "/proc/r.json"), "cannot write /proc/r.json: "),
        (("--csv", "/"), "cannot write /: it is a folder; give the name of a file"),
        (("--output", "."), "cannot write .: it is a folder; give the name of a file"),
        (("--output", ""), "cannot write .: it is a folder; give the name of a file"),
        (("--output", "/"), "cannot write /: it is a folder; give the name of a file"),
        (("--output", ".."), "cannot write ..: it is a folder; give the name of a file"),
        (("--prometheus", ""), "cannot write .: it is a folder; give the name of a file"),
        (("merge", "."), ".: Is a directory"),
        (("--prometheus", "/proc/r.txt"), "cannot write /proc/r.txt: "),
        (("merge",), "Missing argument 'reports'"),
        (("merge", "none.json"), "none.json: No such file"),
        (("--replay",), "--replay: scenario short has no timestamps"),
    ],
)
def test_invalid_flags(
    flags: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Invalid flags exit with 2 and a one-line message."""
    monkeypatch.setattr("sys.argv", ["load_test.py", *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr().err
    assert ended.value.code == 2
    assert output.startswith(f"load_test.py: {message}")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("texts", "chosen", "targets"),
    [
        ([], None, {}),
        (["p95=600ms,throughput=10"], None, {"p95": 0.6, "throughput": 10.0}),
        ([], "design", DESIGN_TARGETS),
        (["p95=600ms"], "design", {**DESIGN_TARGETS, "p95": 0.6}),
        (["none"], None, {}),
    ],
)
def test_targets(
    texts: list[str], chosen: Literal["design"] | None, targets: dict[str, float]
) -> None:
    """There are no targets unless they are given or the design's are chosen."""
    assert parse_targets(texts, chosen) == targets
