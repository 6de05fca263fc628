"""Load scenarios: built-in ones, YAML, datasets of messages, ShareGPT and traces.

The content decides the format, not the name of the file; only YAML needs its suffix.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import RequestShape, TraceOptions
from maxgate.loadtest.scenarios.datasets import read_dataset
from maxgate.loadtest.scenarios.recorded_workload import read_recorded_workload
from maxgate.loadtest.scenarios.scenario import Scenario, builtin_scenarios
from maxgate.loadtest.scenarios.source_file import SourceFile
from maxgate.loadtest.scenarios.yaml_scenario import parse_yaml_scenario
from maxgate.yaml_text import parse_yaml

_MAX_YAML_BYTES: Final = 4 * 2**20


def read_scenario(path: Path, tokenizer: str | None, trace: TraceOptions) -> Scenario:
    """The scenario in this file.

    Raises ConfigurationError with the file, the line if known, and the problem.
    """
    source = SourceFile(path)
    if Path(path.name.removesuffix(".gz")).suffix in {".yaml", ".yml"}:
        return parse_yaml_scenario(_parse_yaml(source), path, tokenizer)
    workload = read_recorded_workload(source, trace, tokenizer)
    if workload is not None:
        return workload
    return read_dataset(source.read_records(), source.name)


def _parse_yaml(source: SourceFile) -> Mapping[str, Any]:
    try:
        text = source.read_all(_MAX_YAML_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source.name}: not UTF-8 text") from error
    value = parse_yaml(text, source.name)
    if not isinstance(value, dict):
        raise ConfigurationError(f"{source.name}: expected a mapping with the key requests")
    return value


def load_scenario(shape: RequestShape) -> Scenario:
    """The scenario of the shape: a built-in name or a file. Raises ConfigurationError."""
    builtin = builtin_scenarios()
    if shape.scenario in builtin:
        return builtin[shape.scenario]
    path = Path(shape.scenario)
    if path.exists():
        state = path.stat()
        key = shape.trace.model_dump_json()
        return _load_file(path, shape.tokenizer, key, (state.st_mtime_ns, state.st_size))
    raise ConfigurationError(
        f"--scenario {shape.scenario}: not a file, nor one of {', '.join(builtin)}"
    )


@lru_cache(maxsize=2)
def _load_file(
    path: Path, tokenizer: str | None, trace: str, _version: tuple[int, int]
) -> Scenario:
    """Cached, because every level and its calibration use the same file."""
    return read_scenario(path, tokenizer, TraceOptions.model_validate_json(trace))
