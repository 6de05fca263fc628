"""The requests of a scenario."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from tokenizers import Tokenizer

from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource


def source(scenario: Path | str, **fields: Any) -> RequestSource:
    """The requests of a scenario."""
    given = {"scenario": str(scenario), "seed": 1, "stream": True, "max_tokens": 8}
    shape = RequestShape(**(given | fields))
    return RequestSource(shape, load_scenario(shape))


def bodies(of: RequestSource, index: int, responses: tuple[str, ...] = ()) -> list[Any]:
    """The bodies of all turns of one conversation."""
    turns = of.conversation(index)
    return [orjson.loads(of.body(turn, index, model="m", responses=responses)) for turn in turns]


def user(text: str) -> dict[str, str]:
    """A user message."""
    return {"role": "user", "content": text}


@pytest.mark.parametrize("name", ["short", "medium", "long", "mixed"])
def test_same_seed(name: str) -> None:
    """The same seed and index give the same bytes."""
    first, again, other = source(name), source(name), source(name, seed=2)
    assert [bodies(first, k) for k in range(50)] == [bodies(again, k) for k in range(50)]
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_builtin_lengths(small_model: Path) -> None:
    """Built-in prompts have about 10, 30 and 100 tokens."""
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


def test_request_fields() -> None:
    """A request has the fields of the run and asks for usage."""
    (body,) = bodies(source("short", extra={"ignore_eos": True}), 0)
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_nonce() -> None:
    """A nonce makes prompts unique per run and index, but keeps the fingerprint."""
    cold, again, warm = source("medium", nonce="a"), source("medium", nonce="b"), source("medium")
    starts = {
        bodies(of, k)[0]["messages"][0]["content"][:7] for of in (cold, again) for k in (0, 1)
    }
    assert starts == {"[a-0-0]", "[a-1-0]", "[b-0-0]", "[b-1-0]"}
    assert cold.fingerprint() == again.fingerprint() == warm.fingerprint()


def test_nonce_of_a_pair() -> None:
    """The two sides of a pair get different nonces, because they may share an engine."""
    cold = source("short", nonce="a")
    (turn,) = cold.conversation(0)
    mine, other = (
        orjson.loads(cold.body(turn, 0, model="m", side=side))["messages"][0]["content"]
        for side in (0, 1)
    )
    assert (mine[:8], other[:8]) == ("[a-0-0] ", "[a-0-1] ")
    assert mine[8:] == other[8:]


def test_live_responses(tmp_path: Path) -> None:
    """Later turns contain the model's own responses."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"requests": [{"system": "s", "turns": ["a", "b"]}]}))
    of = source(path)
    assert of.live_responses
    assert bodies(of, 0, ("reply",))[1]["messages"] == [
        {"role": "system", "content": "s"},
        user("a"),
        {"role": "assistant", "content": "reply"},
        user("b"),
    ]
