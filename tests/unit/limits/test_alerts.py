"""Alerts of budgets, against a scripted receiver."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from maxgate.limits.alert_settings import AlertSettings
from maxgate.limits.alerts import LEASE, MAX_PENDING, RETRY_SECONDS, WebhookAlerts
from maxgate.limits.limit import Alert, Limit, Scope
from tests.fakes.clock import FakeClock
from tests.fakes.limit_store import FakeLimitStore
from tests.fakes.waiting import until

URL = "https://alerts.example.com/budgets"
SECRET = "whsec_" + "c2VjcmV0" * 4
LIMIT = Limit(
    Scope("project", "red"),
    *("money", "month", 1000, "spend per month"),
    is_budget=True,
    alerts=(Alert("l1-80", 800, 80, ("a@example.com",), "[x]"), Alert("l1-100", 1000, 100)),
)


class Receiver:
    """Responds with `statuses` in turn, then 200; an exception instead of a status is raised."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if self.statuses else 200
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, headers={"location": "https://other.example.com"})

    @property
    def types(self) -> list[str]:
        """The types of the events that were sent."""
        return [json.loads(request.content)["type"] for request in self.requests]


class Sender:
    """The alerts of one gateway; `pauses` are those between attempts."""

    def __init__(self, receiver: Receiver, claims: FakeLimitStore, clock: FakeClock) -> None:
        self.pauses: list[float] = []
        self.alerts = WebhookAlerts(
            AlertSettings(webhook_url=URL, webhook_secret=SECRET),
            clock,
            claims,
            transport=httpx.MockTransport(receiver),
            sleep=self._pause,
        )

    async def report(self, *used: int, window_start: int = 0) -> None:
        """Report the use of the budget, and wait until everything is sent."""
        for amount in used:
            self.alerts.report(LIMIT, window_start, amount)
        run = asyncio.create_task(self.alerts.run())
        await until(self._is_idle)
        run.cancel()
        await asyncio.wait([run])

    async def _is_idle(self) -> bool:
        return not self.alerts.pending

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def claims() -> FakeLimitStore:
    """The claims of all gateways."""
    return FakeLimitStore()


@pytest.fixture
def start(clock: FakeClock, claims: FakeLimitStore) -> Callable[[Receiver], Sender]:
    """Start a gateway that sends to a receiver."""
    return lambda receiver: Sender(receiver, claims, clock)


async def test_event(start: Any, clock: FakeClock) -> None:
    """An alert is a signed event in OpenAI's form, which its SDK verifies."""
    receiver = Receiver()
    await start(receiver).report(799, 850, window_start=1_799_000_000)
    [request] = receiver.requests
    event = json.loads(request.content)
    assert (request.method, str(request.url)) == ("POST", URL)
    assert event == {
        "id": event["id"],
        "object": "event",
        "type": "budget.threshold_reached",
        "created_at": int(clock.wall()),
        "timestamp": "2027-01-15T08:16:40Z",
        "data": {
            "id": "l1-80",
            "name": "spend per month",
            "scope": {"type": "project", "id": "red", "model": None},
            "unit": "money",
            "window": "month",
            "window_start": 1_799_000_000,
            "time_zone": "UTC",
            "limit": 1000,
            "threshold": 800,
            "percent": 80,
            "used": 850,
            "recipients": ["a@example.com"],
            "subject_prefix": "[x]",
        },
    }
    assert request.headers["webhook-id"] == event["id"]
    webhooks = openai.OpenAI(api_key="none").webhooks
    webhooks.verify_signature(request.content, request.headers, secret=SECRET, tolerance=10**9)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        webhooks.verify_signature(
            request.content + b" ", request.headers, secret=SECRET, tolerance=10**9
        )


async def test_once_per_window(start: Any) -> None:
    """Each threshold is reported once in each window, by one of the gateways."""
    receiver = Receiver()
    first, second = start(receiver), start(receiver)
    await first.report(800, 810, 1000, 1001)
    await second.report(900, 1001)
    assert sorted(receiver.types) == ["budget.exhausted", "budget.threshold_reached"]
    await second.report(810, window_start=86_400)
    assert len(receiver.requests) == 3


async def test_retries(start: Any, claims: FakeLimitStore) -> None:
    """A failed attempt is repeated after longer and longer pauses, with the same id."""
    receiver = Receiver(500, httpx.ConnectError("refused"), 302)
    sender = start(receiver)
    await sender.report(800)
    assert sender.pauses == list(RETRY_SECONDS[:3])
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert {request.url.host for request in receiver.requests} == {"alerts.example.com"}
    assert len(claims.sent) == 1


async def test_receiver_down(start: Any, clock: FakeClock) -> None:
    """An alert that cannot be sent is logged, and sent after the lease when use is reported."""
    receiver = Receiver(*[500] * 5)
    sender = start(receiver)
    with capture_logs() as logs:
        await sender.report(800)
        await sender.report(810)
    [line] = logs
    assert line["event"] == "an alert could not be sent"
    assert line["error"] == "the webhook responded with status 500"
    assert len(receiver.requests) == 5
    clock.advance(LEASE)
    await sender.report(820)
    assert len(receiver.requests) == 6


async def test_killed_gateway(start: Any, claims: FakeLimitStore, clock: FakeClock) -> None:
    """The alert of a gateway that was killed is sent by another one after the lease."""
    receiver = Receiver()
    sender = start(receiver)
    alert_id = "project/red//money/month/0/l1-80/800"
    await claims.claim_alert(alert_id, int(clock.wall()), LEASE)
    await sender.report(800)
    assert receiver.requests == []
    clock.advance(LEASE + 1)
    await sender.report(800)
    assert (len(receiver.requests), claims.sent) == (1, [alert_id])


async def test_database_outage(start: Any, claims: FakeLimitStore) -> None:
    """Without the database, nothing is sent, because another gateway may send it."""
    receiver = Receiver()
    claims.is_away = True
    sender = start(receiver)
    with capture_logs():
        await sender.report(800)
    assert (receiver.requests, sender.pauses) == ([], list(RETRY_SECONDS))


async def test_many_alerts(start: Any) -> None:
    """A process sends a bounded number of alerts; the others wait for the next report."""
    receiver = Receiver()
    sender = start(receiver)
    for window in range(MAX_PENDING + 5):
        sender.alerts.report(LIMIT, window, 800)
    await sender.report()
    assert len(receiver.requests) == MAX_PENDING
    await sender.report(800, window_start=MAX_PENDING + 1)
    assert len(receiver.requests) == MAX_PENDING + 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"webhook_url": "http://alerts.example.com"}, "must start with https://"),
        ({"webhook_url": "http://169.254.169.254/"}, "must start with https://"),
        ({"webhook_url": "file:///etc/passwd"}, "not a URL"),
        ({"webhook_url": "https://a:b@example.com"}, "credentials"),
        ({"webhook_url": "https://exa mple.com"}, "not a URL"),
        ({"webhook_url": URL}, "needs alerts.webhook_secret"),
        ({"webhook_secret": SECRET}, "no effect without alerts.webhook_url"),
        ({"webhook_timeout": 5}, "no effect without alerts.webhook_url"),
        ({"webhook_url": URL, "webhook_secret": "whsec_c2VjcmV0"}, "24 bytes"),
        ({"webhook_url": URL, "webhook_secret": "c2VjcmV0" * 4}, "24 bytes"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    """Alerts go to https or to this machine, and are signed."""
    with pytest.raises(ValidationError, match=message) as raised:
        AlertSettings(**settings)
    assert "c2VjcmV0" not in str(raised.value.errors(include_input=False))


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:80"])
def test_loopback(host: str) -> None:
    """A receiver on this machine needs no TLS."""
    settings = AlertSettings(webhook_url=f"http://{host}/", webhook_secret=SECRET)
    assert settings.webhook_url == f"http://{host}/"
