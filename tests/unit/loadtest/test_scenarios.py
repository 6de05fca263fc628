"""The same seed asks the same, from every kind of file."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource


def source(scenario: Path | str, **fields: Any) -> RequestSource:
    """Its requests."""
    given = {"scenario": str(scenario), "seed": 1, "stream": True, "max_tokens": 8}
    shape = RequestShape(**(given | fields))
    return RequestSource(shape, load_scenario(shape))


def bodies(of: RequestSource, index: int, answers: tuple[str, ...] = ()) -> list[Any]:
    """The JSON of every turn of one conversation."""
    turns = of.conversation(index)
    return [orjson.loads(of.body(turn, index, model="m", responses=answers)) for turn in turns]


def file(tmp_path: Path, name: str, *lines: Any) -> Path:
    """A file with one JSON value per line."""
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def user(text: str) -> dict[str, str]:
    """A message."""
    return {"role": "user", "content": text}


@pytest.mark.parametrize("name", ["short", "medium", "long", "mixed"])
def test_the_same_seed_and_index_are_the_same_bytes(name: str) -> None:
    first, again, other = source(name), source(name), source(name, seed=2)
    assert [bodies(first, k) for k in range(50)] == [bodies(again, k) for k in range(50)]
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_built_in_prompts_are_about_as_long_as_they_say(small_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(small_model / "tokenizer.json"))
    lengths = {
        name: [
            sum(
                len(tokenizer.encode(m["content"]).ids)
                for m in bodies(source(name), k)[0]["messages"]
            )
            for k in range(30)
        ]
        for name, of in ((name, source(name)) for name in ("short", "medium", "long"))
    }
    means = {name: sum(found) / len(found) for name, found in lengths.items()}
    assert 7 <= means["short"] <= 13
    assert 24 <= means["medium"] <= 36
    assert 85 <= means["long"] <= 125


def test_a_request_asks_for_usage_and_has_the_fields_of_the_run() -> None:
    (body,) = bodies(source("short", extra={"ignore_eos": True}), 0)
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_a_cold_run_starts_every_prompt_differently() -> None:
    """The first words differ by run and by index; the workload is still the same one."""
    cold, again, warm = source("medium", nonce="a"), source("medium", nonce="b"), source("medium")
    starts = {
        bodies(of, k)[0]["messages"][0]["content"][:7] for of in (cold, again) for k in (0, 1)
    }
    assert starts == {"[a-0-0]", "[a-1-0]", "[b-0-0]", "[b-1-0]"}
    assert cold.fingerprint() == again.fingerprint() == warm.fingerprint()


def test_the_two_sides_of_a_cold_pair_share_no_prefix() -> None:
    """They may be two ways to one engine."""
    cold = source("short", nonce="a")
    (turn,) = cold.conversation(0)
    mine, other = (
        orjson.loads(cold.body(turn, 0, model="m", side=side))["messages"][0]["content"]
        for side in (0, 1)
    )
    assert (mine[:8], other[:8]) == ("[a-0-0] ", "[a-0-1] ")
    assert mine[8:] == other[8:]


def test_a_jsonl_of_messages_is_asked_in_order(tmp_path: Path) -> None:
    path = file(
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


def test_sharegpt_is_a_request_for_every_question(tmp_path: Path) -> None:
    said = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    record = {"id": "x", "conversations": [{"from": who, "value": what} for who, what in said]}
    path = tmp_path / "s.json"
    path.write_text(json.dumps([record]))
    answer = {"role": "assistant", "content": "b"}
    assert [body["messages"] for body in bodies(source(path), 0)] == [
        [user("a")],
        [user("a"), answer, user("c")],
    ]


def test_a_trace_leaves_at_its_own_times(tmp_path: Path) -> None:
    path = file(
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
def test_a_synthetic_prompt_has_exactly_its_length(
    tmp_path: Path, small_model: Path, tokens: int
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"requests": [{"synthetic": tokens}]}))
    file_ = str(small_model / "tokenizer.json")
    (body,) = bodies(source(path, tokenizer=file_), 3)
    text = body["messages"][0]["content"]
    assert len(Tokenizer.from_file(file_).encode(text, add_special_tokens=False).ids) == tokens


def test_shared_prefixes_are_shared(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    part = {"synthetic": {"low": 5, "high": 9}, "shared_prefix": 20, "prefixes": 2}
    path.write_text(yaml.safe_dump({"requests": [part]}))
    found = [bodies(source(path), k)[0]["messages"] for k in range(20)]
    assert len({messages[0]["content"] for messages in found}) == 2
    assert len({messages[1]["content"] for messages in found}) == 20


def test_a_conversation_carries_the_models_own_answers(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"requests": [{"system": "s", "turns": ["a", "b"]}]}))
    of = source(path)
    assert of.live_responses
    assert bodies(of, 0, ("said",))[1]["messages"] == [
        {"role": "system", "content": "s"},
        user("a"),
        {"role": "assistant", "content": "said"},
        user("b"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "there is no request in it"),
        ("a.jsonl", "{", ":1: "),
        ("a.jsonl", "1", "record 1 is no object"),
        ("a.jsonl", '{"x": 1}', "record 1: expected messages, prompt or conversations"),
        ("a.jsonl", '{"timestamp": 1}', "a record without messages, prompt or lengths"),
        ("a.jsonl", '{"messages": [{"content": "x"}]}', "record 1: message 1 has no role"),
        ("a.jsonl", '{"timestamp": 1, "prompt": 2}', "the record of 1: expected messages, prompt"),
        ("a.jsonl", '{"timestamp": "nan", "input_length": 2}', "a timestamp that is no time"),
        ("a.jsonl", '{"timestamp": 1, "input_length": "x"}', "the record of 1: input_length: "),
        ("a.jsonl", '{"timestamp": 1, "input_length": 0}', "the record of 1: input_length: "),
        ("a.jsonl", '{"timestamp": 1, "input_length": 9, "hash_ids": 7}', "of 1: hash_ids: "),
        ("a.json", '[{"conversations": 5}]', "record 1: conversations: expected a list"),
        ("a.json", '[{"conversations": ["x"]}]', "record 1: conversations: expected a list"),
        ("a.json", '[{"conversations": [{"from": "human", "value": 5}]}]', "a value that is no"),
        ("a.yaml", "requests: [{messages: []}]", "requests.0: expected messages"),
        ("a.yaml", "requests: [{messages: [{}]}]", "requests.0: message 1 has no role"),
        ("a.yaml", "requests: [{turns: []}]", "requests.0.turns: list should have at least 1"),
        ("a.yaml", "requests: [{synthetic: {low: 9, high: 3}}]", "low is above high"),
        ("a.yaml", "requests: [{synthetic: 99999999999}]", "less than or equal to 2000000"),
        ("a.yaml", "requests: [{synthetic: 1, weight: .inf}]", "requests.0.weight: "),
        ("a.yaml", "[", "not YAML"),
        ("a.yaml", "- 1", "expected a mapping"),
        ("a.yaml", "requests: []", "requests: list should have at least 1 item"),
        ("a.yaml", "requests: [{weight: 1}]", "each of requests has one of"),
        ("a.yaml", "requests: [{synthetic: 1, typo: 2}]", "requests.0.typo: extra inputs"),
    ],
)
def test_a_broken_file_gets_one_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        source(path)
    assert str(caught.value).startswith(f"--scenario {path}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
