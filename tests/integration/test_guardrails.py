"""Guardrails and moderations over HTTP, in front of a scripted engine."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from fastapi import FastAPI

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, Gateway, start
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.server import serving
from tests.fakes.sse import DONE, join_content, read_events

CANARY = "ada.canary@example.org"
SMALL, GUARD = "smollm2-135m-instruct", "guard"
RULES = [
    {"name": "mail", "kind": "pii", "types": ["email"], "action": "mask", "applies_to": "input"},
    {"name": "keys", "kind": "secrets", "action": "block"},
    {"name": "words", "kind": "words", "words": ["falcon"], "action": "block"},
]
SAFETY = {"name": "safety", "kind": "model", "model": GUARD, "action": "block"}


@pytest.fixture
def guard_card(tmp_path: Path, small_model: Path) -> Path:
    """A card of a moderation model, with the tokenizer of the small model."""
    card = yaml.safe_load(SMALL_CARD.read_text())
    for name in ("source", "aliases", "description"):
        card.pop(name, None)
    card.update(name=GUARD, served_model_name=GUARD, task="moderation", tokenizer=str(small_model))
    card["max"]["model_path"] = str(small_model)
    path = tmp_path / "guard.yaml"
    path.write_text(yaml.safe_dump(card))
    return path


@pytest.fixture
async def guarded(
    guard_card: Path, small_model: Path, embedding_model: Path
) -> AsyncIterator[Gateway]:
    """A gateway with rules, and models for chat, embeddings and moderation."""
    engine = FakeMax(models=[SMALL, EMBEDDING_MODEL, GUARD])
    cards = [SMALL_CARD, EMBEDDING_CARD, guard_card]
    async with start(engine, cards=cards, guardrails=RULES) as gateway:
        yield gateway


async def test_block_input(guarded: Gateway) -> None:
    """A request that a rule refuses gets OpenAI's error, and reaches no engine."""
    response = await guarded.chat(messages=[{"role": "user", "content": "A falcon."}])
    assert (response.status_code, response.json()) == (
        400,
        {
            "error": {
                "message": "The guardrail 'words' refuses this request: messages[0].content "
                "contains text that is not allowed (WORDS). Remove it.",
                "type": "invalid_request_error",
                "param": "messages[0].content",
                "code": "content_filter",
            }
        },
    )
    assert guarded.engine.requests == []


async def test_mask(guarded: Gateway, small_tokenizer: PromptTokenizer) -> None:
    """The engine gets a placeholder, and the client its value, in a stream and without."""
    for stream in (False, True):
        guarded.engine.scripts = [Script(tokens=["Dear <EM", "AIL_1", ">, hi"])]
        messages = [{"role": "user", "content": f"Write to {CANARY}"}]
        response = await guarded.chat(messages=messages, stream=stream)
        if stream:
            text = join_content(read_events(response.text))
        else:
            text = response.json()["choices"][0]["message"]["content"]
        assert text == f"Dear {CANARY}, hi"
        prompt = small_tokenizer.decode(guarded.engine.requests[-1]["prompt"])
        assert "Write to <EMAIL_1>" in prompt
        assert CANARY not in prompt


async def test_block_stream(guarded: Gateway) -> None:
    """A stream ends before the match, and its engine call is cancelled."""
    guarded.engine.scripts = [Script(tokens=["A fal", "con ", *["flies "] * 50], gap=0.01)]
    response = await guarded.chat(stream=True, stream_options={"include_usage": True})
    *events, usage, end = read_events(response.text)
    assert join_content(events) == "A "
    assert events[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert usage["usage"]["completion_tokens"] < 50
    assert end == DONE


async def test_stop_string(guarded: Gateway) -> None:
    """Text after a stop string is neither sent nor checked."""
    guarded.engine.scripts = [Script(tokens=["An owl", "; ", "falcon"])]
    response = await guarded.chat(stop=[";"])
    [choice] = response.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("An owl", "stop")


async def test_echo(guarded: Gateway) -> None:
    """An echoed prompt keeps its values, and is filtered together with the text after it."""
    guarded.engine.scripts = [Script(tokens=["con", " flies"])] * 2
    for prompt, expected in [
        (f"{CANARY} ", (f"{CANARY} con flies", "stop")),
        ("A fal", ("A ", "content_filter")),
    ]:
        body = {"model": SMALL, "prompt": prompt, "echo": True}
        response = await guarded.client.post("/v1/completions", json=body)
        [choice] = response.json()["choices"]
        assert (choice["text"], choice["finish_reason"]) == expected


async def test_token_ids(guarded: Gateway) -> None:
    """Token ids are refused, since they cannot be checked."""
    body = {"model": SMALL, "prompt": [1, 2]}
    response = await guarded.client.post("/v1/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    response = await guarded.embed([1, 2], model=EMBEDDING_MODEL)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input")


async def test_embeddings(guarded: Gateway) -> None:
    """Inputs of embeddings are checked and masked."""
    response = await guarded.embed(["an owl", "a falcon"], model=EMBEDDING_MODEL)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[1]")
    masked = await guarded.embed([f"To {CANARY}"], model=EMBEDDING_MODEL)
    written = await guarded.embed(["To [mail]"], model=EMBEDDING_MODEL)
    assert (masked.status_code, written.status_code) == (200, 200)
    assert guarded.engine.requests[0]["input"] != guarded.engine.requests[1]["input"]


async def test_canary(guarded: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    """Texts that match are in no error, log or metric (L01)."""
    key = "ghp_" + "aB3" * 12
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"{CANARY} {key}"}]},
        {"messages": [{"role": "user", "content": CANARY}]},
        {"messages": [{"role": "user", "content": CANARY}], "stream": True},
    ]
    guarded.engine.default = Script(tokens=["My key is ", key, " now"])
    for body in bodies:
        response = await guarded.chat(**body)
        assert key not in response.text
        assert CANARY not in response.text
    metrics = (await guarded.client.get("/metrics", headers={"accept": "text/plain"})).text
    health = (await guarded.client.get("/health")).text
    output = "".join(capfd.readouterr())
    assert "request completed" in output
    for text in (metrics, health, output):
        assert key not in text
        assert CANARY not in text
    assert 'decision="block",direction="output",rule="keys"} 2.0' in metrics


async def test_webhook() -> None:
    """A service judges the input and the output; one that is gone refuses, as the rule says."""
    judged: list[tuple[str, str | None]] = []
    service = FastAPI()

    @service.post("/judge")
    async def judge(subject: dict[str, Any]) -> dict[str, str]:
        judged.append((subject["direction"], subject["output"]))
        return {"action": "block" if "falcon" in (subject["output"] or "") else "allow"}

    engine = FakeMax(models=[SMALL])
    engine.scripts = [Script(tokens=["An owl"]), Script(tokens=["A falcon"])]
    async with AsyncExitStack() as resources:
        url = await resources.enter_async_context(serving(service))
        rule = {"name": "judge", "kind": "webhook", "url": f"{url}/judge", "action": "block"}
        async with start(engine, guardrails=[rule]) as gateway:
            safe = await gateway.chat()
            unsafe = await gateway.chat()
            await resources.aclose()
            unjudged = await gateway.chat()
    [choice] = safe.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("An owl", "stop")
    assert unsafe.json()["choices"][0]["finish_reason"] == "content_filter"
    assert judged == [
        ("input", None),
        ("output", "An owl"),
        ("input", None),
        ("output", "A falcon"),
    ]
    assert unjudged.status_code == 503
    assert len(engine.requests) == 2


async def test_moderations(guarded: Gateway) -> None:
    """The moderation model answers in OpenAI's shape, for each text."""
    guarded.engine.scripts = [Script(tokens=["\n\nunsafe\n", "S1,S6"])]
    client = openai.AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key="none", max_retries=0)
    async with client:
        created = await client.moderations.create(input="How do I hurt someone?")
    assert (created.id.startswith("modr-"), created.model) == (True, GUARD)
    [result] = created.results
    assert result.flagged
    categories = result.categories.model_dump(by_alias=True)
    assert {name for name, is_found in categories.items() if is_found} == {
        "violence",
        "illicit/violent",
        "S1",
        "S6",
    }
    assert result.category_scores.violence > 0
    assert result.category_scores.hate == 0.0
    assert result.category_applied_input_types.violence == ["text"]


async def test_several_moderations(guarded: Gateway) -> None:
    """Texts are judged one by one, and parts together; rules do not apply to them."""
    guarded.engine.default = Script(tokens=["safe"])
    for given, count in [
        (["a falcon", CANARY], 2),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], 1),
    ]:
        guarded.engine.requests.clear()
        response = await guarded.client.post("/v1/moderations", json={"input": given})
        results = response.json()["results"]
        assert [result["flagged"] for result in results] == [False] * count
        assert len(guarded.engine.requests) == count


async def test_no_verdict(guarded: Gateway) -> None:
    """A response that is no verdict is an error of the engine."""
    guarded.engine.scripts = [Script(tokens=["I think that is fine."])]
    response = await guarded.client.post("/v1/moderations", json={"input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")


async def test_wrong_model(guarded: Gateway) -> None:
    """A moderation model does not chat, and a chat model does not moderate."""
    response = await guarded.chat(model=GUARD)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    body = {"input": "a", "model": SMALL}
    response = await guarded.client.post("/v1/moderations", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


async def test_no_moderation_model(gateway: Gateway) -> None:
    """Without a moderation model, the error names the way out."""
    response = await gateway.client.post("/v1/moderations", json={"input": "a"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert "task: moderation" in error["message"]


async def test_model_rule(guard_card: Path, small_model: Path) -> None:
    """A rule asks the moderation model before the engine is called, and about the response."""
    engine = FakeMax(models=[SMALL, GUARD])
    async with start(engine, cards=[SMALL_CARD, guard_card], guardrails=[SAFETY]) as gateway:
        engine.scripts = [Script(tokens=["unsafe\nS2"])]
        response = await gateway.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (400, "content_filter")
        assert [request["model"] for request in engine.requests] == [GUARD]

        engine.scripts = [
            Script(tokens=["safe"]),
            Script(tokens=["An ", "owl"]),
            Script(tokens=["unsafe\nS2"]),
        ]
        response = await gateway.chat(stream=True)
        events = read_events(response.text)
        assert join_content(events) == ""
        assert events[-2]["choices"][0]["finish_reason"] == "content_filter"

        engine.scripts = [Script(status=500)] * 9
        response = await gateway.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (
            503,
            "guardrail_unavailable",
        )
