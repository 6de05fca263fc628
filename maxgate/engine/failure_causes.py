"""Explaining from MAX's log why it did not start or exited, and what to do about it."""

import re
import signal
from collections.abc import Sequence
from typing import Final

# Messages of MAX 26.7, the most specific first.
_CAUSES: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (
        re.compile(r"network port (\d+) is already in use|Address already in use"),
        "its port is in use by another process; stop that process or choose another port",
    ),
    (
        re.compile(r"corrupted file: .*? for file '(?P<file>[^']*\.max_cache)"),
        "its compile cache is stale or damaged; remove the folder {file} and start again",
    ),
    (
        re.compile(r"OUT_OF_MEMORY|out of memory|MemoryError|bad_alloc|[Nn]ot enough memory"),
        "there is too little memory for this model; free some, or choose a smaller model, context "
        "or batch size",
    ),
    (
        re.compile(r"GatedRepoError|401 Client Error"),
        "the model requires a login at Hugging Face; set HF_TOKEN",
    ),
    (
        re.compile(r"Failed to compile the model"),
        "it could not compile the model; if it could before, its compile cache is stale: remove "
        "the folder ~/.cache/modular/.max_cache and start again",
    ),
    (
        re.compile(r"No such option: (?P<option>\S+)"),
        "it does not know the flag {option}; check the card's `max.extra_flags`",
    ),
)
_PHASES: Final = (
    ("Starting worker", "starting the model worker"),
    ("Initializing model pipeline", "loading the model"),
    ("Building, compiling, and initializing model", "compiling the model"),
    ("Building, compiling, and initializing sampler", "compiling the sampler"),
    ("Model worker ready", "opening its port"),
)


def find_cause(log: str, exit_code: int) -> str:
    """Return the cause as a clause without a capital letter or full stop."""
    for pattern, cause in _CAUSES:
        if found := pattern.search(log):
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return cause.format(**groups)
    if exit_code == -signal.SIGKILL or exit_code == 128 + signal.SIGKILL:
        return "it was killed, most likely because the machine ran out of memory"
    if exit_code < 0:
        return f"it was killed by {signal.Signals(-exit_code).name}"
    return f"it exited with code {exit_code}"


def find_phase(log: str) -> str:
    """Return the phase of MAX's start, from the last known message in its log."""
    found = [(log.rfind(mark), phase) for mark, phase in _PHASES if mark in log]
    return max(found)[1] if found else "starting"
