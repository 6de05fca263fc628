"""The base install, as in the gateway's image, works without any extra."""

import subprocess
import sys

_OF_EXTRAS = ("docker", "gguf", "max", "numpy", "psutil")

# With None in sys.modules, importing the module raises ImportError.
_WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({_OF_EXTRAS!r})); "


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python without the extras."""
    command = [sys.executable, "-c", _WITHOUT_EXTRAS + code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_serve() -> None:
    """`maxgate serve` imports nothing from an extra."""
    code = "sys.argv[1:] = ['serve', '--help']; import maxgate.app, maxgate.__main__"

    result = run_python(code)

    assert (result.returncode, result.stderr) == (0, "")


def test_launcher() -> None:
    """The container launcher needs neither MAX nor the packages that prepare models."""
    result = run_python("import maxgate.engine.launcher")

    assert (result.returncode, result.stderr) == (0, "")


def test_prepare() -> None:
    """`maxgate models prepare` reports the missing extra in one line."""
    result = run_python("sys.argv[1:] = ['models', 'prepare', 'm.gguf']; import maxgate.__main__")

    assert (result.returncode, result.stderr) == (
        2,
        "maxgate: preparing models needs an extra; run: pip install 'maxgate[prepare]'\n",
    )


def test_gguf_tokenizer() -> None:
    """Reading a tokenizer from a GGUF file reports the missing extra."""
    result = run_python(
        "from pathlib import Path; from maxgate.prompts.tokenizer import load_tokenizer\n"
        "load_tokenizer(Path('m.gguf'))"
    )

    message = "reading GGUF files needs an extra; run: pip install 'maxgate[prepare]'"
    assert result.stderr.splitlines()[-1] == f"maxgate.errors.ConfigurationError: {message}"
