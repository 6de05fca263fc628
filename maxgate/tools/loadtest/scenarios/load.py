"""A scenario by its name or file."""

from pathlib import Path

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.job import RequestShape
from maxgate.tools.loadtest.scenarios.builtin import builtin_scenarios
from maxgate.tools.loadtest.scenarios.files import scenario_from_file
from maxgate.tools.loadtest.scenarios.scenario import Scenario


def load_scenario(shape: RequestShape) -> Scenario:
    """The scenario that this shape names.

    Raises ConfigurationError where there is none, or its file is broken.
    """
    builtin = builtin_scenarios()
    if shape.scenario in builtin:
        return builtin[shape.scenario]
    if Path(shape.scenario).exists():
        return scenario_from_file(Path(shape.scenario), shape.tokenizer)
    raise ConfigurationError(
        f"--scenario {shape.scenario}: neither a file nor one of {', '.join(builtin)}"
    )
