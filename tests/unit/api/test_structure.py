"""What a body is made of is counted before it is parsed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.api.request_body import (
    MAX_JSON_CONTAINERS,
    MAX_JSON_VALUES,
    check_structure,
    structure,
)
from maxgate.errors import RequestTooLarge

JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{}:,\n\u2028é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\{:'), inner),
)


def marks(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(marks, value))
    if isinstance(value, dict):
        return "{" + ",".join(":" + marks(item) for item in value.values())
    return ""


@given(value=JSON, ascii_only=st.booleans())
def test_marks_in_strings_are_no_structure(value: Any, *, ascii_only: bool) -> None:
    assert structure(json.dumps(value, ensure_ascii=ascii_only).encode()) == marks(value).encode()


def filled(item: str, count: int) -> bytes:
    return f"[{','.join([item] * count)}]".encode()


@pytest.mark.parametrize(
    ("item", "most"),
    [
        ("[]", MAX_JSON_CONTAINERS - 1),
        ("{}", MAX_JSON_CONTAINERS - 1),
        ('{"a":[]}', (MAX_JSON_CONTAINERS - 1) // 3),
        ("1", MAX_JSON_VALUES),
        ('","', MAX_JSON_VALUES),
        ('"{[:"', MAX_JSON_VALUES),
    ],
)
def test_so_many_pass_and_no_more(item: str, most: int) -> None:
    check_structure(filled(item, most))
    with pytest.raises(RequestTooLarge, match="60000 arrays, objects and fields"):
        check_structure(filled(item, most + 1))


def test_text_may_hold_any_number_of_marks() -> None:
    check_structure(json.dumps({"a": '[{:,"\\' * 200_000}).encode())
