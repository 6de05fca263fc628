"""Argument values survive the way from the model's notation to JSON."""

import json

import pytest

from maxgate.tool_calling.values import read_value, write_value


@pytest.mark.parametrize("raw", ["1e400", "-1e400", '{"a": 1e400}', "9" * 5000, "NaN"])
def test_numbers_outside_json(raw: str) -> None:
    """Numbers that JSON cannot represent stay text."""
    assert read_value(raw) == raw
    write_value(read_value(raw))


@pytest.mark.parametrize("raw", ['"\\ud800"', '{"\\udfff": ["é\\ud800"]}', "'\\ud800'"])
def test_lone_surrogates(raw: str) -> None:
    """Lone surrogates stay escaped."""
    written = write_value(read_value(raw))
    assert json.loads(written.encode()) == read_value(raw)


def test_characters() -> None:
    """Other characters are not escaped."""
    assert write_value("é\U0001f469") == '"é\U0001f469"'
