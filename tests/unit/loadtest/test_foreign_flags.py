"""Flags that people know from other load generators."""

from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from maxgate.loadtest.flags import Flags
from maxgate.loadtest.foreign_flag_names import EXPLAINED, RENAMED, WITHOUT_VALUE
from maxgate.loadtest.foreign_flags import translate_arguments


def list_flags() -> dict[str, bool]:
    """All flags of the load test, and whether each takes no value."""
    found = {"--help": True}
    hints = get_type_hints(Flags, include_extras=True)
    for field in fields(Flags):
        kind, option = get_args(hints[field.name])
        default = f"--{field.name.replace('_', '-')}"
        texts = [option.default, *(option.param_decls or ())]
        names = [name for text in texts if isinstance(text, str) for name in text.split("/")]
        if kind is bool and not names:
            names = [default, f"--no-{default[2:]}"]
        found |= dict.fromkeys(names or [default], kind is bool)
    return found


@pytest.mark.parametrize(
    ("given", "translated"),
    [
        ("localhost:8000", "--url localhost:8000"),
        ("-c 8 http://h/v1", "-c 8 --url http://h/v1"),
        ("--no-calibrate 10.0.0.1:8000/v1 -q", "--no-calibrate --url 10.0.0.1:8000/v1 -q"),
        ("--baseline localhost:8001", "--baseline localhost:8001"),
        ("--baseline=h:1 h:2", "--baseline=h:1 --url h:2"),
        ("--host h --port 8000", "--url h:8000"),
        ("--host 10.0.0.7", "--url 10.0.0.7:8000"),
        ("--host http://h/v1", "--url http://h/v1"),
        ("--num_prompts 9 --request_rate=5", "--requests 9 --rate=5"),
        ("--port=8001 -c 4", "-c 4 --url localhost:8001"),
        ("--num-prompts 9 --max-concurrency=4", "--requests 9 --concurrency=4"),
        ("--request-rate 5 --max-seconds 30", "--rate 5 --duration 30"),
        ("--request-rate inf --max-concurrency 2 h:1", "--concurrency 2 --url h:1"),
        ("-c 2 --rate=inf", "-c 2"),
        ("--max_concurrency=2 -r inf -q", "--concurrency=2 -q"),
        ("--request-rate 5 -c 2", "--rate 5 -c 2"),
        ("--goodput ttft:500 tpot:50.5 -c 2", "--slo ttft=500ms,tpot=50.5ms -c 2"),
        ("--goodput=e2el:900", "--slo e2el=900ms"),
        ("-H x:y -k", "-H x:y --insecure"),
        ("-H a:1 localhost:8000", "-H a:1 --url localhost:8000"),
        ("merge a.json localhost:1", "merge a.json localhost:1"),
        ("", ""),
    ],
)
def test_translation(given: str, translated: str) -> None:
    """Flags with the same meaning work, and a URL needs no flag."""
    assert translate_arguments(given.split()) == translated.split()


def test_names() -> None:
    """Translations lead to flags that exist, and replace none of them."""
    own = list_flags()
    assert {name for name in RENAMED.values() if name not in own} == set()
    assert (RENAMED.keys() | EXPLAINED.keys()) & own.keys() == set()
    assert {name for name, valueless in own.items() if valueless} - {"--help"} == WITHOUT_VALUE
