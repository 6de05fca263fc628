"""Alerts of budgets: each is sent to a webhook once per window.

Signatures are those of Standard Webhooks 1.0, which OpenAI's SDKs verify by `webhooks.unwrap`.
"""

import asyncio
import base64
import hmac
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Protocol

import httpx
import structlog
from typing_extensions import override

from maxgate.clock import Clock
from maxgate.errors import StackTrace
from maxgate.limits.alert_settings import AlertSettings, decode_secret
from maxgate.limits.limit import UNLIMITED, Alert, Limit
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.limits import Claim

RETRY_SECONDS: Final = (5.0, 30.0, 120.0, 300.0)
"""Pauses between the attempts to send an alert."""
LEASE: Final = 900
"""Seconds for which an alert is left to the gateway that sends it: more than all attempts take."""
MAX_PENDING: Final = 1000
"""Alerts that a process sends or waits to send; further ones wait for the next report."""

_MAX_HANDLED: Final = 100_000
_log = structlog.get_logger("limits")


class AlertSink(Protocol):
    """Takes reports of use; never blocks and never raises."""

    def report(self, limit: Limit, window_start: int, used: int) -> None:
        """Report the use of a limit in the window that begins at this Unix time (0 for `total`).

        Call it after each settlement, and when a budget refuses a request.
        """
        ...


class AlertClaims(Protocol):
    """Decides which gateway sends an alert; see LimitStore."""

    async def claim_alert(self, alert_id: str, now: int, lease: int) -> Claim:
        """Claim an alert; raises StoreUnavailable."""
        ...

    async def finish_alert(self, alert_id: str, now: int) -> None:
        """Remember that it was sent; raises StoreUnavailable."""
        ...


class NoAlerts(AlertSink):
    """Sends nothing."""

    @override
    def report(self, limit: Limit, window_start: int, used: int) -> None:
        pass


class LocalClaims(AlertClaims):
    """The claims of one process, without a database: each process sends its own alerts."""

    @override
    async def claim_alert(self, alert_id: str, now: int, lease: int) -> Claim:
        return "own"

    @override
    async def finish_alert(self, alert_id: str, now: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Report:
    """An alert that is due, with its identity in all gateways."""

    id: str
    limit: Limit
    alert: Alert
    window_start: int
    used: int


class WebhookAlerts(AlertSink):
    """Sends alerts to a URL; call `run` on the event loop that reports them.

    An alert is sent at least once: a gateway that is killed while it sends one leaves it to the
    next report after LEASE, with the same `webhook-id`. `transport` replaces the network.
    """

    def __init__(
        self,
        settings: AlertSettings,
        clock: Clock,
        claims: AlertClaims | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if settings.webhook_url is None or settings.webhook_secret is None:
            raise ValueError("alerts need a URL and a secret")
        self._url = settings.webhook_url
        self._key = decode_secret(settings.webhook_secret.get_secret_value())
        self._timeout = settings.webhook_timeout
        self._clock = clock
        self._claims = claims or LocalClaims()
        self._sleep = sleep
        # Environment variables such as HTTPS_PROXY have no effect.
        self._client = httpx.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, timeout=self._timeout
        )
        self._due = asyncio.Queue[_Report]()
        self.pending = 0
        """Alerts that wait or are being sent."""
        # By alert: the monotonic time until which nothing is to be done.
        self._handled: dict[str, float] = {}

    @override
    def report(self, limit: Limit, window_start: int, used: int) -> None:
        for alert in limit.alerts:
            if used < alert.amount:
                return
            scope = limit.scope
            place = f"{scope.kind}/{scope.id}/{scope.model or ''}"
            alert_id = (
                f"{place}/{limit.unit}/{limit.window}/{window_start}/{alert.id}/{alert.amount}"
            )
            if self._clock.monotonic() < self._handled.get(alert_id, -math.inf):
                continue
            if self.pending >= MAX_PENDING:
                return
            if len(self._handled) >= _MAX_HANDLED:
                self._handled.clear()
            self._handled[alert_id] = math.inf
            self.pending += 1
            self._due.put_nowait(_Report(alert_id, limit, alert, window_start, used))

    async def run(self) -> None:
        """Send alerts; runs until it is cancelled, which leaves those that wait to others."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._handle(await self._due.get()))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _handle(self, report: _Report) -> None:
        try:
            is_sent = await self._deliver(report)
        except Exception as error:  # noqa: BLE001  # other alerts must be sent
            _log.error("an alert could not be sent", exception=StackTrace(error))
            is_sent = False
        finally:
            self.pending -= 1
        if not is_sent:
            self._handled[report.id] = self._clock.monotonic() + LEASE

    async def _deliver(self, report: _Report) -> bool:
        """Send an alert unless another gateway does; returns whether it was sent by any."""
        is_own, reason = False, ""
        for pause in (*RETRY_SECONDS, None):
            try:
                if not is_own:
                    now = int(self._clock.wall())
                    claim = await self._claims.claim_alert(report.id, now, LEASE)
                    if claim != "own":
                        return claim == "sent"
                    is_own = True
                await self._send(report)
            except (StoreUnavailable, httpx.HTTPError, TimeoutError, OSError) as error:
                reason = str(error) or type(error).__name__
            else:
                await self._finish(report)
                return True
            if pause is not None:
                await self._sleep(pause)
        _log.error("an alert could not be sent", alert=report.id, error=reason)
        return False

    async def _finish(self, report: _Report) -> None:
        try:
            await self._claims.finish_alert(report.id, int(self._clock.wall()))
        except StoreUnavailable as error:  # another gateway may send it again, with the same id
            _log.warning("a sent alert could not be noted", alert=report.id, error=str(error))

    async def _send(self, report: _Report) -> None:
        """Post the alert; raises httpx.HTTPError, TimeoutError and OSError."""
        now = int(self._clock.wall())
        message_id = f"evt_{sha256(report.id.encode()).hexdigest()[:32]}"
        body = json.dumps(_build_event(report, message_id, now))
        headers = {
            "content-type": "application/json",
            "user-agent": "maxgate",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._key, message_id, now, body),
        }
        async with (
            asyncio.timeout(self._timeout),
            self._client.stream("POST", self._url, content=body, headers=headers) as response,
        ):
            if not response.is_success:
                raise httpx.HTTPError(f"the webhook responded with status {response.status_code}")


def _build_event(report: _Report, event_id: str, now: int) -> dict[str, Any]:
    """Return the event in OpenAI's form, with the timestamp of Standard Webhooks."""
    limit, alert = report.limit, report.alert
    is_used_up = limit.is_budget and alert.amount >= limit.amount
    return {
        "id": event_id,
        "object": "event",
        "type": "budget.exhausted" if is_used_up else "budget.threshold_reached",
        "created_at": now,
        "timestamp": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "id": alert.id,
            "name": limit.name,
            "scope": {"type": limit.scope.kind, "id": limit.scope.id, "model": limit.scope.model},
            "unit": limit.unit,
            "window": limit.window,
            "window_start": report.window_start,
            "time_zone": limit.time_zone,
            "limit": None if limit.amount >= UNLIMITED else limit.amount,
            "threshold": alert.amount,
            "percent": alert.percent,
            "used": report.used,
            "recipients": list(alert.recipients),
            "subject_prefix": alert.subject_prefix,
        },
    }


def sign(key: bytes, message_id: str, timestamp: int, body: str) -> str:
    """Return the signature of Standard Webhooks: HMAC-SHA256 of id, timestamp and body."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.{body}".encode(), "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
