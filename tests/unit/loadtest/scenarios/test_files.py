"""Scenarios in files of every format."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.files import load_scenario
from tests.unit.loadtest.scenarios.test_requests import bodies, source, user


def write_lines(tmp_path: Path, name: str, *lines: Any) -> Path:
    """Write a file with one JSON value per line."""
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_jsonl(tmp_path: Path) -> None:
    """A JSONL file of messages is sent in order, then again."""
    path = write_lines(
        tmp_path,
        "a.jsonl",
        {"messages": [user("1")], "max_tokens": 3},
        [user("2")],
        {"prompt": "3"},
    )
    of = source(path)
    found = [bodies(of, k)[0] for k in range(4)]
    assert [body["messages"] for body in found] == [[user(t)] for t in ("1", "2", "3", "1")]
    assert [body["max_tokens"] for body in found] == [3, 8, 8, 3]


def test_sharegpt(tmp_path: Path) -> None:
    """Every user message of a ShareGPT conversation becomes a request."""
    parts = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    record = {"id": "x", "conversations": [{"from": who, "value": text} for who, text in parts]}
    path = tmp_path / "s.json"
    path.write_text(json.dumps([record]))
    response = {"role": "assistant", "content": "b"}
    assert [body["messages"] for body in bodies(source(path), 0)] == [
        [user("a")],
        [user("a"), response, user("c")],
    ]


def test_recorded_workload(tmp_path: Path) -> None:
    """A recorded workload keeps its times, lengths and shared prefixes."""
    path = write_lines(
        tmp_path,
        "t.jsonl",
        {"timestamp": 7000, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 5000, "input_length": 600, "output_length": 6, "hash_ids": [1, 3]},
    )
    of = source(path)
    scenario = load_scenario(RequestShape(scenario=str(path), seed=1, stream=True, max_tokens=None))
    assert scenario.arrivals == [0.0, 2.0]
    first, second = (bodies(of, k)[0] for k in (0, 1))
    assert (first["max_tokens"], second["max_tokens"]) == (6, 5)
    words = [body["messages"][0]["content"].split() for body in (first, second)]
    assert (words[0][:512] == words[1][:512], words[0] == words[1]) == (True, False)
    assert [len(one) for one in words] == [600, 600]


@pytest.mark.parametrize("tokens", [1, 17, 300])
def test_synthetic_length(tmp_path: Path, small_model: Path, tokens: int) -> None:
    """With a tokenizer, synthetic prompts have exactly the given length."""
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"requests": [{"synthetic": tokens}]}))
    tokenizer_file = str(small_model / "tokenizer.json")
    (body,) = bodies(source(path, tokenizer=tokenizer_file), 3)
    text = body["messages"][0]["content"]
    assert (
        len(Tokenizer.from_file(tokenizer_file).encode(text, add_special_tokens=False).ids)
        == tokens
    )


def test_shared_prefixes(tmp_path: Path) -> None:
    """Prompts share one of the given number of prefixes."""
    path = tmp_path / "s.yaml"
    part = {"synthetic": {"low": 5, "high": 9}, "shared_prefix": 20, "prefixes": 2}
    path.write_text(yaml.safe_dump({"requests": [part]}))
    found = [bodies(source(path), k)[0]["messages"] for k in range(20)]
    assert len({messages[0]["content"] for messages in found}) == 2
    assert len({messages[1]["content"] for messages in found}) == 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "the file contains no request"),
        ("a.jsonl", "{", ":1: "),
        ("a.jsonl", "1", "record 1 is not an object"),
        ("a.jsonl", '{"x": 1}', "record 1: expected messages, prompt or conversations"),
        (
            "a.jsonl",
            '{"timestamp": 1}',
            "record at 1: expected messages, prompt or input_length",
        ),
        ("a.jsonl", '{"messages": [{"content": "x"}]}', "record 1: message 1 has no role"),
        ("a.jsonl", '{"timestamp": 1, "prompt": 2}', "the record at 1: expected messages, prompt"),
        ("a.jsonl", '{"timestamp": "nan", "input_length": 2}', "timestamps must be finite"),
        ("a.jsonl", '{"timestamp": 1, "input_length": "x"}', "the record at 1: input_length: "),
        ("a.jsonl", '{"timestamp": 1, "input_length": 0}', "the record at 1: input_length: "),
        ("a.jsonl", '{"timestamp": 1, "input_length": 9, "hash_ids": 7}', "at 1: hash_ids: "),
        ("a.json", '[{"conversations": 5}]', "record 1: conversations: expected a list"),
        ("a.json", '[{"conversations": ["x"]}]', "record 1: conversations: expected a list"),
        (
            "a.json",
            '[{"conversations": [{"from": "human", "value": 5}]}]',
            "value must be a string",
        ),
        ("a.yaml", "requests: [{messages: []}]", "requests.0: expected messages"),
        ("a.yaml", "requests: [{messages: [{}]}]", "requests.0: message 1 has no role"),
        ("a.yaml", "requests: [{turns: []}]", "requests.0.turns: list should have at least 1"),
        ("a.yaml", "requests: [{synthetic: {low: 9, high: 3}}]", "low must not be above high"),
        ("a.yaml", "requests: [{synthetic: 99999999999}]", "less than or equal to 2000000"),
        ("a.yaml", "requests: [{synthetic: 1, weight: .inf}]", "requests.0.weight: "),
        ("a.yaml", "[", "invalid YAML"),
        ("a.yaml", "- 1", "expected a mapping"),
        ("a.yaml", "requests: []", "requests: list should have at least 1 item"),
        ("a.yaml", "requests: [{weight: 1}]", "expected exactly one of"),
        ("a.yaml", "requests: [{synthetic: 1, typo: 2}]", "requests.0.typo: extra inputs"),
    ],
)
def test_invalid_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    """An invalid file gives a one-line message that names the file."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        source(path)
    assert str(caught.value).startswith(f"--scenario {path}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
