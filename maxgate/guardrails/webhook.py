"""A service that judges texts over HTTP.

It gets a POST with `{"rule", "direction", "model", "project", "messages": [{"role", "content"}],
"output"}` and responds with `{"action": "allow"}` or `{"action": "block"}`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import httpx
import orjson
from typing_extensions import override

from maxgate.guardrails.checks import Check, CheckFailed, Subject
from maxgate.guardrails.settings import WebhookRule

_MAX_RESPONSE: Final = 64 * 1024
_VERDICTS: Final[Mapping[Any, bool]] = {"allow": False, "block": True}


class Webhook(Check):
    """Calls the URL of a rule; redirects are not followed, and `transport` is for tests."""

    def __init__(
        self, rule: WebhookRule, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._rule = rule
        self._transport = transport

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        # Not before the first call: reading the system's CA certificates takes a while.
        headers = {"content-type": "application/json"}
        if self._rule.token is not None:
            headers["authorization"] = f"Bearer {self._rule.token}"
        return httpx.AsyncClient(
            transport=self._transport,
            headers=headers,
            timeout=self._rule.timeout,
            follow_redirects=False,
            trust_env=False,
        )

    @override
    async def is_unsafe(self, subject: Subject) -> bool:
        try:
            content = await self._post(orjson.dumps(self._describe(subject)))
            verdict = orjson.loads(content)["action"]
            return _VERDICTS[verdict]
        except httpx.HTTPError as error:
            raise CheckFailed(type(error).__name__) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckFailed("invalid response") from error

    async def _post(self, body: bytes) -> bytes:
        content = b""
        async with self._client.stream("POST", self._rule.url, content=body) as response:
            if response.status_code != 200:
                raise CheckFailed(f"status {response.status_code}")
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_RESPONSE:
                    raise CheckFailed(f"a response of more than {_MAX_RESPONSE} bytes")
        return content

    def _describe(self, subject: Subject) -> dict[str, Any]:
        return {
            "rule": self._rule.name,
            "direction": "input" if subject.output is None else "output",
            "model": subject.model,
            "project": subject.context.principal.project_id,
            "messages": [
                {"role": message.role, "content": "".join(message.parts)}
                for message in subject.messages
            ],
            "output": subject.output,
        }

    @override
    async def aclose(self) -> None:
        if "_client" in self.__dict__:
            await self._client.aclose()
