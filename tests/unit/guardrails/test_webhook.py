"""Webhooks: what they get, and what counts as a verdict."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from maxgate.generation.request import Message
from maxgate.guardrails.checks import CheckFailed, Checks, Subject
from maxgate.guardrails.decisions import Decisions
from maxgate.guardrails.errors import GuardrailUnavailable
from maxgate.guardrails.rules import DirectionRules, Rule
from maxgate.guardrails.settings import WebhookRule
from maxgate.guardrails.webhook import Webhook
from tests.fakes.guardrails import Counts, parse_rules
from tests.fakes.requests import request_context

SUBJECT = Subject((Message("user", ("Good", "bye")),), "small", request_context(), "Hi")


def make_rule(**fields: object) -> WebhookRule:
    [rule] = parse_rules({"kind": "webhook", "url": "http://hook/check", **fields})
    assert isinstance(rule, WebhookRule)
    return rule


async def call(respond: Callable[[httpx.Request], httpx.Response]) -> bool:
    webhook = Webhook(make_rule(token="secret"), httpx.MockTransport(respond))
    try:
        return await webhook.is_unsafe(SUBJECT)
    finally:
        await webhook.aclose()


async def test_request() -> None:
    """The service gets the texts and the token."""
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"action": "allow"})

    assert not await call(respond)
    [request] = requests
    assert (request.method, str(request.url)) == ("POST", "http://hook/check")
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.content) == {
        "rule": "rule",
        "direction": "output",
        "model": "small",
        "project": "anonymous",
        "messages": [{"role": "user", "content": "Goodbye"}],
        "output": "Hi",
    }


async def test_block() -> None:
    """The service may refuse a text."""
    assert await call(lambda _: httpx.Response(200, json={"action": "block"}))


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, json={"action": "allow"}),
        httpx.Response(302, headers={"location": "http://other/"}),
        httpx.Response(200, json={"action": "maybe"}),
        httpx.Response(200, json={"action": ["allow"]}),
        httpx.Response(200, json=["allow"]),
        httpx.Response(200, json={}),
        httpx.Response(200, text="allow"),
        httpx.Response(200, text=" " * 70_000 + '{"action": "allow"}'),
    ],
)
async def test_no_verdict(response: httpx.Response) -> None:
    """Anything but a small valid response is a failure; redirects are not followed."""
    with pytest.raises(CheckFailed):
        await call(lambda _: response)


async def test_unreachable() -> None:
    """A failed connection is a failure of the check."""

    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(CheckFailed, match="ConnectError"):
        await call(respond)


@pytest.mark.parametrize("on_failure", ["open", "closed"])
async def test_timeout(on_failure: str) -> None:
    """A service that does not respond in time is a failure, whatever it sends."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    rule = make_rule(timeout=0.01, on_failure=on_failure)
    checks = Checks({"rule": Webhook(rule, Silent())})
    counts = Counts()
    decisions = Decisions("output", counts)
    rules = DirectionRules([Rule(rule)], "output")
    if on_failure == "closed":
        with pytest.raises(GuardrailUnavailable):
            await checks.find_violation(rules, SUBJECT, decisions)
    else:
        assert await checks.find_violation(rules, SUBJECT, decisions) is None
    decisions.report(request_context())
    assert counts.numbers == {("rule", "output", f"failed_{on_failure}"): 1}
    await checks.aclose()
