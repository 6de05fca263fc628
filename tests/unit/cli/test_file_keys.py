"""`maxgate keys --file` prints a key once and stores only its hash."""

import io
import json
import re
import stat
import sys
from pathlib import Path

import pytest
import yaml

from maxgate.auth.api_key import hash_key, is_well_formed
from maxgate.cli.main import main
from tests.fakes.api_keys import PEPPER

KEY = "sk-mg-5rhxym99hsyXxwZIJETAa20JOgYJz5WQIla0J8imOK40G8Ylb"


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for durable state."""
    monkeypatch.setenv("MAXGATE_STATE_DIR", str(tmp_path))
    return tmp_path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run `maxgate keys`, with `--file` where it has that; return exit code, stdout and stderr."""
    if arguments[0] != "hash" and "--file" not in arguments:
        arguments = (*arguments, "--file")
    monkeypatch.setattr(sys, "argv", ["maxgate", "keys", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err


def test_create(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    """The key alone is on stdout; the file has its hash and fields, for its owner only."""
    flags = ("--name", "laptop", "--project", "red", "--owner", "ann", "--models", "a, b")
    flags += ("--models", "c", "--networks", "10.0.0.0/8", "--expires", "2027-06-30")
    flags += ("--service-class", "flex", "--admin")
    code, out, err = run(monkeypatch, capsys, "create", *flags)

    key, file = out.removesuffix("\n"), state_dir / "keys.yaml"
    pepper = (state_dir / "pepper").read_text().strip()
    [entry] = yaml.safe_load(file.read_text())["keys"]
    assert (code, is_well_formed(key)) == (0, True)
    assert re.fullmatch(r"key_[0-9a-f]{16}", entry["id"])
    assert entry == {
        "id": entry["id"],
        "hash": "hmac-sha256:" + hash_key(key, pepper.encode()).hex(),
        "name": "laptop",
        "project": "red",
        "owner": "ann",
        "models": ["a", "b", "c"],
        "networks": ["10.0.0.0/8"],
        "expires": "2027-06-30T00:00:00Z",
        "service_class": "flex",
        "admin": True,
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text() + err
    assert f"{entry['id']} is in {file}." in err
    assert not (state_dir / "maxgate.db").exists()
    assert "set auth.mode (MAXGATE_AUTH__MODE) to keys" in err


def test_create_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`--json` prints id and key, and `--file` chooses the file."""
    file = tmp_path / "other" / "mine.yaml"
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "keys")
    code, out, err = run(monkeypatch, capsys, "create", "--json", "--file", str(file))

    created = json.loads(out)
    assert (code, created.keys()) == (0, {"id", "key"})
    assert created["id"] in file.read_text()
    assert "auth.mode" not in err


@pytest.mark.parametrize("duration", ["12h", "90d", "2w"])
def test_durations(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state_dir: Path,
    duration: str,
) -> None:
    """A key may expire after a duration."""
    assert run(monkeypatch, capsys, "create", "--expires", duration)[0] == 0
    [entry] = yaml.safe_load((state_dir / "keys.yaml").read_text())["keys"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["expires"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--expires", "soon"), "--expires: 'soon' is not a date or time; write 2027-01-31 or"),
        (("--expires", "0d"), "--expires: '0d' is not a date or time"),
        (("--networks", "10.0.0.1/8"), "--networks: 10.0.0.1/8 has host bits set; write"),
        (("--models", "a,,b"), "a list has an empty item; remove it"),
        (("--project", "a b"), "--project: String should match pattern"),
        (("--name", KEY), "--name: must not hold a key"),
        ((KEY,), "unexpected extra argument"),
    ],
)
def test_invalid_flags(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state_dir: Path,
    flags: tuple[str, ...],
    message: str,
) -> None:
    """A usage error names the flag and the rule, and creates no key."""
    code, out, err = run(monkeypatch, capsys, "create", *flags)

    assert (code, out) == (2, "")
    assert message in err
    assert not (state_dir / "keys.yaml").exists()


def test_list_and_revoke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    """The list shows states and the beginning of hashes; a revoked key stays listed."""
    assert run(monkeypatch, capsys, "create", "--name", "first", "--models", "a,b")[0] == 0
    assert run(monkeypatch, capsys, "create", "--expires", "2020-01-01")[0] == 0
    first, second = yaml.safe_load((state_dir / "keys.yaml").read_text())["keys"]

    code, out, err = run(monkeypatch, capsys, "revoke", first["id"])
    assert (code, out, err) == (0, "", f"{first['id']} is revoked in {state_dir / 'keys.yaml'}.\n")
    code, out, _ = run(monkeypatch, capsys, "list")
    assert [line.split() for line in out.splitlines()] == [
        ["id", "name", "project", "owner", "models", "expires", "state", "hash"],
        [first["id"], "first", "default", "-", "a,b", "-", "revoked", first["hash"][12:20]],
        [second["id"], "-", "default", "-", "-", "2020-01-01T00:00:00+00:00", "expired",
         second["hash"][12:20]],
    ]  # fmt: skip
    code, out, _ = run(monkeypatch, capsys, "list", "--json")
    assert [(key["id"], key["state"]) for key in json.loads(out)] == [
        (first["id"], "revoked"),
        (second["id"], "expired"),
    ]
    assert first["hash"] not in out
    code, _, err = run(monkeypatch, capsys, "revoke", "key_0")
    assert (code, "no key has the id 'key_0'" in err) == (2, True)


def test_hash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    """The hash of a key from standard input is made with the first pepper."""
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "keys")
    monkeypatch.setenv("MAXGATE_AUTH__PEPPER", f"{PEPPER},{'f' * 32}")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{KEY}\n"))

    code, out, err = run(monkeypatch, capsys, "hash")

    assert (code, err) == (0, "")
    assert out == f"hmac-sha256:{hash_key(KEY, PEPPER.encode()).hex()}\n"
    assert list(state_dir.iterdir()) == []


@pytest.mark.parametrize("given", ["", "sk-other", KEY[:-1], f"{KEY}\n{KEY}"])
def test_hash_of_other_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """A text that is not a key is refused and not shown."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))

    code, out, err = run(monkeypatch, capsys, "hash")

    assert (code, out) == (2, "")
    assert err.startswith("maxgate: standard input is not a key of maxgate, or has a typing error")
    assert "sk-other" not in err


def test_generated_hash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--generate` prints a new key beside its hash."""
    code, out, err = run(monkeypatch, capsys, "hash", "--generate")

    assert code == 0
    assert re.fullmatch(r"hmac-sha256:[0-9a-f]{64}\n", out)
    assert is_well_formed(err.removeprefix("key: ").rstrip())


def test_no_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    """Without a database, keys are in the file even without `--file`."""
    monkeypatch.setenv("DATABASE_URL", "none")
    monkeypatch.setattr(sys, "argv", ["maxgate", "keys", "create"])
    with pytest.raises(SystemExit) as exit_:
        main()
    capsys.readouterr()
    [entry] = yaml.safe_load((state_dir / "keys.yaml").read_text())["keys"]
    code, out, _ = run(monkeypatch, capsys, "show", entry["id"], "--json", "--file")

    assert (exit_.value.code, code) == (0, 0)
    assert json.loads(out)["id"] == entry["id"]


def test_invalid_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    """An invalid file is reported and left as it is."""
    (state_dir / "keys.yaml").write_text("keys: 3")

    code, _, err = run(monkeypatch, capsys, "create")

    assert (code, "keys: Input should be a valid list" in err) == (2, True)
    assert (state_dir / "keys.yaml").read_text() == "keys: 3"
