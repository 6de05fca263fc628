"""The base install works without any extra."""

import subprocess
import sys
from dataclasses import replace

import pytest

from maxgate.installation import Installation
from tests.conftest import ROOT

_OF_EXTRAS = (
    "altair",
    "cryptography",
    "docker",
    "gguf",
    "joserfc",
    "max",
    "numpy",
    "psutil",
    "psycopg",
    "pynvml",
    "redis",
    "textual",
    "vl_convert",
)

# With None in sys.modules, importing the module raises ImportError.
_WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({_OF_EXTRAS!r})); "


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python without the extras, in the checkout."""
    command = [sys.executable, "-c", _WITHOUT_EXTRAS + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def format_missing(extra: str) -> str:
    """Format the end of the error for a missing extra, as seen in the checkout."""
    command = replace(Installation.detect(), folder=ROOT).format_install(extra)
    assert command.endswith(f" install -e '.[{extra}]'")
    return f"needs the extra `{extra}`; run: {command}"


def test_serve() -> None:
    """`maxgate serve` imports nothing from an extra."""
    code = "sys.argv[1:] = ['serve', '--help']; import maxgate.app, maxgate.__main__"

    result = run_python(code)

    assert (result.returncode, result.stderr) == (0, "")


def test_launcher() -> None:
    """The container launcher needs neither MAX nor the packages that prepare models."""
    result = run_python("import maxgate.engine.launcher")

    assert (result.returncode, result.stderr) == (0, "")


def test_redis() -> None:
    """A gateway with `redis.url` reports the missing extra in one line."""
    result = run_python(
        "from maxgate.installation import requires_extra\n"
        "with requires_extra('redis.url', 'redis'): import maxgate.admission.redis_ledger"
    )

    assert result.stderr.splitlines()[-1] == (
        f"maxgate.errors.ConfigurationError: redis.url {format_missing('redis')}"
    )


def test_postgres() -> None:
    """A gateway with PostgreSQL reports the missing extra in one line."""
    result = run_python(
        "from pathlib import Path\n"
        "from maxgate.stores.identity_store import open_identity_store\n"
        "from maxgate.stores.settings import DatabaseSettings\n"
        "open_identity_store(DatabaseSettings(url='postgresql://host/name'), Path('/none'))"
    )

    assert result.stderr.splitlines()[-1] == (
        f"maxgate.errors.ConfigurationError: database.url {format_missing('postgres')}"
    )


def test_no_database() -> None:
    """With default settings no library of a database or of tokens is imported."""
    result = run_python(
        "from maxgate.app import create_app\n"
        "from maxgate.settings import Settings\n"
        "create_app(Settings())\n"
        "names = {'aiosqlite', 'alembic', 'joserfc', 'redis', 'sqlalchemy'}\n"
        "print(sorted(name for name in names if sys.modules.get(name)))"
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_jwt() -> None:
    """A gateway that verifies tokens reports the missing extra in one line."""
    result = run_python(
        "import maxgate.auth.jwt_settings\n"
        "from maxgate.installation import requires_extra\n"
        "with requires_extra('auth.mode jwt', 'jwt'): import maxgate.auth.jwt_verifier"
    )

    assert result.stderr.splitlines()[-1] == (
        f"maxgate.errors.ConfigurationError: auth.mode jwt {format_missing('jwt')}"
    )


@pytest.mark.parametrize(
    ("setting", "value", "extra"),
    [("host", True, "host"), ("gpu", True, "host"), ("certificates", ["tls.crt"], "tls")],
)
def test_system_metrics(setting: str, value: object, extra: str) -> None:
    """A gateway that exports metrics of the system reports the missing extra in one line."""
    result = run_python(
        "from maxgate.composition.system import build_system\n"
        "from maxgate.settings import Settings\n"
        f"build_system(Settings(telemetry={{{setting!r}: {value!r}}}))"
    )

    assert result.stderr.splitlines()[-1] == (
        f"maxgate.errors.ConfigurationError: telemetry.{setting} {format_missing(extra)}"
    )


def test_prepare() -> None:
    """`maxgate models prepare` reports the missing extra in one line."""
    result = run_python("sys.argv[1:] = ['models', 'prepare', 'm.gguf']; import maxgate.__main__")

    assert (result.returncode, result.stderr) == (
        2,
        f"maxgate: preparing models {format_missing('prepare')}\n",
    )


def test_gguf_tokenizer() -> None:
    """Reading a tokenizer from a GGUF file reports the missing extra."""
    result = run_python(
        "from pathlib import Path; from maxgate.prompts.tokenizer import load_tokenizer\n"
        "load_tokenizer(Path('m.gguf'))"
    )

    message = f"reading GGUF files {format_missing('prepare')}"
    assert result.stderr.splitlines()[-1] == f"maxgate.errors.ConfigurationError: {message}"


@pytest.mark.parametrize("script", ["load_test.py", "monitor.py", "visualize_results.py"])
def test_scripts(script: str) -> None:
    """The scripts of the tools report the missing extra in one line."""
    result = run_python(f"import runpy; runpy.run_path({script!r}, run_name='__main__')")

    assert (result.returncode, result.stderr) == (2, f"{script} {format_missing('tools')}\n")


@pytest.fixture(scope="module")
def listed() -> subprocess.CompletedProcess[str]:
    """The result of `maxgate --help`."""
    return run_python("sys.argv[1:] = ['--help']; import maxgate.__main__")


@pytest.mark.parametrize("command", ["load-test", "monitor", "report"])
def test_tools(command: str, listed: subprocess.CompletedProcess[str]) -> None:
    """The tools report the missing extra in one line, and `maxgate --help` lists them."""
    result = run_python(f"sys.argv[1:] = [{command!r}]; import maxgate.__main__")

    message = f"maxgate: {command} {format_missing('tools')}\n"
    assert (result.returncode, result.stderr) == (2, message)
    assert (listed.returncode, command in listed.stdout) == (0, True)
