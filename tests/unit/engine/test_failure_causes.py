"""Causes and phases from MAX's log."""

import pytest

from maxgate.engine.failure_causes import find_cause, find_phase


@pytest.mark.parametrize(
    ("log", "exit_code", "cause"),
    [
        ("ValueError: The network port 8080 is already in use", 1, "its port is in use"),
        (
            "RuntimeError: corrupted file: stored hash and computed hash did not match for file "
            "'/root/.cache/modular/.max_cache/mof/mef/26.7.0/x'\n"
            "RuntimeError: Failed to compile the model. Please file an issue",
            1,
            "remove the folder /root/.cache/modular/.max_cache and start again",
        ),
        ("RuntimeError: Failed to compile the model. Please", 1, "its compile cache is stale"),
        ("CUDA_ERROR_OUT_OF_MEMORY", 1, "too little memory"),
        ("std::bad_alloc", 134, "too little memory"),
        ("Error: No such option: --max-batch", 2, "does not know the flag --max-batch"),
        ("GatedRepoError: 401", 1, "set HF_TOKEN"),
        ("", -9, "ran out of memory"),
        ("", 137, "ran out of memory"),
        ("", -11, "killed by SIGSEGV"),
        ("all was well", 3, "exited with code 3"),
    ],
)
def test_find_cause(log: str, exit_code: int, cause: str) -> None:
    """The log explains the exit, or else the exit code does."""
    assert cause in find_cause(log, exit_code)


def test_find_phase() -> None:
    """The last known message in the log determines the phase."""
    log = "Starting worker: x\nInitializing model pipeline...\n"
    assert find_phase("") == "starting"
    assert find_phase(log) == "loading the model"
    assert (
        find_phase(log + "Building, compiling, and initializing model...") == "compiling the model"
    )
