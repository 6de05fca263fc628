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


def read_summary(path: Path) -> list[str]:
    """The summary of the scenario in this file."""
    shape = RequestShape(scenario=str(path), seed=1, stream=True, max_tokens=None)
    return list(load_scenario(shape).summary)


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
    assert list(scenario.arrivals or ()) == [0.0, 2.0]
    first, second = (bodies(of, k)[0] for k in (0, 1))
    assert (first["max_tokens"], second["max_tokens"]) == (6, 5)
    words = [body["messages"][0]["content"].split() for body in (first, second)]
    assert (words[0][:512] == words[1][:512], words[0] == words[1]) == (True, False)
    assert [len(one) for one in words] == [600, 600]


def test_sharegpt_roles(tmp_path: Path) -> None:
    """Turns of other role names are mapped, and what is changed or skipped is counted."""
    names = [
        "system",
        "user",
        "chatgpt",
        "human",
        "function_call",
        "observation",
        "bing",
        "USER",
        "narrator",
        "gpt",
    ]
    parts = [{"from": name, "value": f"{name}!"} for name in names]
    parts.append({"from": "human", "value": ""})
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"conversations": parts}, {"conversations": parts[:1]}]))
    longest = bodies(source(path), 0)[-1]["messages"]
    roles = ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert [message["role"] for message in longest] == roles
    assert read_summary(path) == [
        f"{path}: records used: 1 of 2",
        "turns of the role 'observation', sent as user messages: 1",
        "turns with the unknown role 'narrator', skipped: 1",
        "turns without text, skipped: 1",
        "records without a user message, skipped: 1",
    ]


def test_sharegpt_with_openai_turns(tmp_path: Path) -> None:
    """Turns of a conversation may have `role` and `content`."""
    parts = [user("a"), {"role": "assistant", "content": "b"}, user("c")]
    path = write_lines(tmp_path, "a.jsonl", {"conversations": parts})
    assert [body["messages"] for body in bodies(source(path), 0)] == [[user("a")], parts]


def test_reference_answer(tmp_path: Path) -> None:
    """The assistant message at the end of a record for training is not sent."""
    record = {"messages": [user("a"), {"role": "assistant", "content": "b"}]}
    path = write_lines(tmp_path, "a.jsonl", record)
    assert bodies(source(path), 0)[0]["messages"] == [user("a")]
    note = "records that end with an assistant message, which is not sent: 1"
    assert read_summary(path) == [f"{path}: records used: 1 of 1", note]


def test_openai_batch(tmp_path: Path) -> None:
    """The bodies of an OpenAI batch file are sent, with the model of the load test."""
    body = {"model": "other", "messages": [user("a")], "max_tokens": 3}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    path = write_lines(tmp_path, "a.jsonl", line)
    found = bodies(source(path), 0)[0]
    assert (found["messages"], found["max_tokens"], found["model"]) == ([user("a")], 3, "m")


def test_byte_order_mark(tmp_path: Path) -> None:
    """A UTF-8 byte order mark is ignored."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}')
    assert bodies(source(path), 0)[0]["messages"] == [user("a")]


def test_array_over_several_lines(tmp_path: Path) -> None:
    """A JSON array larger than one read is split into its records."""
    texts = [f"{k} " + 'é]}",' * 3000 for k in range(150)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": text} for text in texts], indent=1, ensure_ascii=False))
    of = source(path)
    found = [bodies(of, k)[0]["messages"][0]["content"] for k in range(150)]
    assert found == texts


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
        ("a.jsonl", "1", ":1: neither JSON nor the header of a CSV table"),
        ("a.jsonl", '{"messages": []}', ":1: messages: the list is empty; add a user message"),
        ("a.jsonl", '{"messages": "a"}', ":1: messages: expected a list, not str"),
        ("a.jsonl", '{"x": 1}', ":1: expected messages, prompt or conversations; found x"),
        (
            "a.jsonl",
            '{"two\\nlines": 1}',
            r":1: expected messages, prompt or conversations; found 'two\nlines'",
        ),
        (
            "a.jsonl",
            '{"timestamp": 1}',
            ":1: expected messages, prompt or a number of input tokens",
        ),
        ("a.jsonl", '{"messages": [{"content": "x"}]}', ":1: message 1 has no role"),
        ("a.jsonl", '{"timestamp": 1, "prompt": 2}', ":1: prompt: expected a string, not int"),
        (
            "a.jsonl",
            '{"timestamp": "nan", "input_length": 2}',
            ":1: timestamp: expected a finite number or an ISO 8601 time, got 'nan'",
        ),
        (
            "a.jsonl",
            '{"timestamp": 1, "input_length": "x"}',
            ":1: input_length: expected a whole number",
        ),
        (
            "a.jsonl",
            '{"timestamp": 1, "input_length": 0}',
            "no row of 1 can be sent: rows skipped, input_length is 0: 1",
        ),
        (
            "a.jsonl",
            '{"timestamp": 1, "input_length": 9, "hash_ids": 7}',
            ":1: hash_ids: expected a list",
        ),
        (
            "a.jsonl",
            '{"custom_id": "1", "url": "/v1/embeddings", "body": {"input": "a"}}',
            ":1: url '/v1/embeddings': only batch requests to /v1/chat/completions can be sent",
        ),
        ("a.json", '[{"prompt": "a"}, {"prompt": "b"', "record 2: invalid or truncated JSON"),
        ("a.json", '[{"prompt": "a"} {"prompt": "b"}]', "expected ',' after record 1, found '{'"),
        ("a.json", '[{"prompt": "a"}', "after record 1, found the end of the file"),
        ("a.json", "[" * 100_000, "record 1: invalid or truncated JSON (nested too deeply"),
        (
            "a.json",
            '[{"instruction": "a", "output": "b"}]',
            "record 1: expected messages, prompt or conversations; found instruction, output",
        ),
        ("a.json", '[{"conversations": 5}]', "record 1: conversations: expected a list"),
        ("a.json", '[{"conversations": ["x"]}]', "record 1: conversations: expected a list"),
        (
            "a.json",
            '[{"conversations": [{"from": "human", "value": 5}]}]',
            "value must be a string",
        ),
        ("a.yaml", "requests: [{messages: []}]", "requests.0: messages: the list is empty"),
        ("a.yaml", "requests: [{messages: [{}]}]", "requests.0: message 1 has no role"),
        ("a.yaml", "requests: [{turns: []}]", "requests.0.turns: list should have at least 1"),
        ("a.yaml", "requests: [{synthetic: {low: 9, high: 3}}]", "low must not be above high"),
        ("a.yaml", "requests: [{synthetic: 99999999999}]", "less than or equal to 2000000"),
        ("a.yaml", "requests: [{synthetic: 1, weight: .inf}]", "requests.0.weight: "),
        ("a.yaml", "[", "a.yaml, line 1: not valid YAML"),
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
