"""Loading settings from all sources in tests."""

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings, setting_names
from maxgate.settings_names import to_variable

PORT = to_variable("server.port")
SOURCES = ("flag", "environment", "secrets", "dotenv", "file", "default")


def load() -> tuple[Settings, list[str]]:
    """Load the settings, with the warnings."""
    warnings: list[str] = []
    return load_settings(warnings.append), warnings


def read_error() -> str:
    """Return the one-line error of loading the settings."""
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def list_fields() -> dict[str, FieldInfo]:
    """Return the declaration of every setting."""
    fields = {}
    for name in setting_names():
        section, _, key = name.rpartition(".")
        owner = Settings.model_fields[section].annotation if section else Settings
        assert owner is not None
        assert issubclass(owner, BaseModel)
        fields[name] = owner.model_fields[key]
    return fields
