"""What works without any extra: the gateway's image is a base install."""

import subprocess
import sys

_OF_EXTRAS = ("docker", "gguf", "max", "numpy", "psutil")

# None in sys.modules makes Python say that there is no such module.
_WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({_OF_EXTRAS!r})); "


def test_the_command_line_needs_no_extra() -> None:
    """`maxgate serve` imports nothing that only an extra installs."""
    result = _python("sys.argv[1:] = ['serve', '--help']; import maxgate.app, maxgate.__main__")

    assert (result.returncode, result.stderr) == (0, "")


def test_a_containers_launcher_needs_only_the_extra_docker() -> None:
    """The arguments of a container are made without MAX, and without what prepares models."""
    result = _python("import maxgate.engine.launcher")

    assert (result.returncode, result.stderr) == (0, "")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT_EXTRAS + code]
    return subprocess.run(command, capture_output=True, text=True, check=False)
