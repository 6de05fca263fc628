"""Tests of the command line: output files, error messages and exit codes."""

from pathlib import Path

import pytest

from maxgate.report.cli import main
from tests.unit.report.examples import write_example


def run(*arguments: str | Path) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_output_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes HTML, PNG and Markdown, and is silent with `--quiet`."""
    path = write_example(tmp_path / "a.json")
    files = [tmp_path / "out" / name for name in ("a.html", "a.png", "a.md")]
    code = run(path, "--html", files[0], "--png", files[1], "--markdown", files[2], "--quiet")
    assert (code, *capsys.readouterr()) == (0, "", "")
    starts = [file.read_bytes()[:4] for file in files]
    assert starts == [b"<!do", b"\x89PNG", b"## L"]


def test_unreadable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreadable file is one line on stderr and exit code 1; the others are shown."""
    (tmp_path / "b.json").write_text("{")
    code = run(write_example(tmp_path / "a.json"), tmp_path / "b.json")
    out, err = capsys.readouterr()
    assert code == 1
    assert "Results, latencies in ms" in out
    assert err.count("\n") == 1
    assert err.startswith(f"visualize_results.py: {tmp_path / 'b.json'}: invalid or truncated JSON")


def test_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder stands for all reports in it, and one without reports is a usage error."""
    for name in ("a.json", "b.json"):
        write_example(tmp_path / "runs" / name)
    assert run(tmp_path / "runs") == 0
    assert "b: concurrency 8" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    assert run(tmp_path / "none") == 2
    message = f"visualize_results.py: no reports in {tmp_path / 'none'}: it has no .json file\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere.json"], "/nowhere.json: No such file or directory"),
        (["--bogus"], "No such option: --bogus"),
        ([], "no reports in results/: pass the path of a load_test.py report"),
    ],
)
def test_usage_errors(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A usage error is one line on stderr and exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"visualize_results.py: {message}")


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output path that cannot be written is exit code 2 with the reason."""
    path = write_example(tmp_path / "a.json")
    assert run(path, "--quiet", "--markdown", tmp_path) == 2
    assert "it is a folder; give the name of a file" in capsys.readouterr().err


def test_newest_report_is_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments, the newest report in results/ is shown."""
    monkeypatch.chdir(tmp_path)
    write_example(tmp_path / "results" / "only.json")
    assert run() == 0
    assert "Load test of small" in capsys.readouterr().out


def test_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--label` names the runs; a wrong number of labels is a usage error."""
    paths = [
        write_example(tmp_path / name, started=k) for k, name in enumerate(("a.json", "b.json"))
    ]
    assert run(*paths, "--label", "old", "-l", "new") == 0
    assert "Changes against old" in capsys.readouterr().out
    assert run(*paths, "--label", "old") == 2
    assert capsys.readouterr().err == (
        "visualize_results.py: --label: 1 labels for 2 reports: give one label per report, in the "
        "same order\n"
    )


def test_width_of_redirected_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redirected output is 160 columns wide, or as wide as $COLUMNS."""
    path = write_example(tmp_path / "a.json")
    widths = []
    for columns in ("", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        run(path)
        widths.append(max(map(len, capsys.readouterr().out.splitlines())))
    assert (100 < widths[0] <= 160, 70 < widths[1] <= 80) == (True, True)
