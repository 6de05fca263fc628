"""The command: what it writes, what it says of bad files, and its exit codes."""

from pathlib import Path

import pytest

from maxgate.report.cli import main
from tests.unit.report.examples import written


def run(*arguments: str | Path) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_writes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.json")
    forms = [tmp_path / "out" / name for name in ("a.html", "a.png", "a.md")]
    code = run(path, "--html", forms[0], "--png", forms[1], "--markdown", forms[2], "--quiet")
    assert (code, *capsys.readouterr()) == (0, "", "")
    starts = [form.read_bytes()[:4] for form in forms]
    assert starts == [b"<!do", b"\x89PNG", b"## L"]


def test_a_broken_file_is_a_line_and_the_others_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.json").write_text("{")
    code = run(written(tmp_path / "a.json"), tmp_path / "b.json")
    out, err = capsys.readouterr()
    assert code == 1
    assert "Latency by percentile" in out
    assert err.count("\n") == 1
    assert err.startswith(f"visualize_results.py: {tmp_path / 'b.json'}: invalid or truncated JSON")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere.json"], "/nowhere.json: No such file or directory"),
        (["--bogus"], "No such option: --bogus"),
        ([], "give reports of load_test.py; there are none in results/"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"visualize_results.py: {said}")


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.json")
    assert run(path, "--quiet", "--markdown", tmp_path) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_without_files_the_newest_result_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "results" / "only.json")
    assert run() == 0
    assert "only: concurrency 8" in capsys.readouterr().out
