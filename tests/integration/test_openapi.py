"""Responses conform to the OpenAPI document, for requests that schemathesis generates."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import EMBEDDING_MODEL, TLS, start, start_with_embeddings
from tests.fakes.max_server import FakeMax
from tests.fakes.stored_keys import StoredKeys
from tests.fakes.usage_store import FakeUsageStore

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/moderations",
    "GET /v1/models",
    "POST /v1/models",
    "GET /v1/models/{model}",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /auth",
    "GET /metrics",
    "GET /metrics/vllm",
    "GET /admin/engines",
    "POST /admin/engines",
    "GET /admin/engines/{engine_id}",
    "PATCH /admin/engines/{engine_id}",
    "DELETE /admin/engines/{engine_id}",
    "POST /admin/models/swap",
    "GET /admin/models/swap",
    "POST /admin/reload",
    "GET /running",
    "POST /api/models/unload",
    "POST /api/models/unload/{model}",
    "POST /admin/canary",
    "GET /admin/canary",
    "DELETE /admin/canary",
]
# The statuses of operations that need engines which the gateway has started.
NOT_SUPPORTED = {
    "POST /api/models/unload": {501},
    "POST /api/models/unload/{model}": {501, 404},  # generated names may be `..` or have a newline
    "POST /admin/models/swap": {400, 501},
    "GET /admin/models/swap": {501},
}
# The URL of an engine has a form that OpenAPI cannot describe, so that all generated ones are
# refused, and no canary runs.
NEVER_OK = {
    "POST /admin/engines",
    "POST /admin/canary",
    "GET /admin/canary",
    "DELETE /admin/canary",
    "POST /v1/moderations",  # no model judges texts
}
EXAMPLES = 60
ORGANIZATION = re.compile(r"\w+ (/v1/organization|/key|/spend)/")
# No generated key exists, and perhaps no spend limit.
NO_SUCH_OBJECT = {
    "POST /key/block",
    "POST /key/unblock",
    "POST /key/update",
    "POST /key/delete",
    "POST /key/regenerate",
    "GET /key/info",
    "GET /v1/organization/spend_limit",
    "DELETE /v1/organization/spend_limit",
}
# Fields that OpenAPI cannot describe: valid only together with others, names of things that do not
# exist, and schemas that the fake engine's output never matches.
MESSAGES = [{"role": "user", "content": "Hello"}]
NOT_GENERATED = {
    "model",
    "stream_options",
    "tool_choice",
    "top_logprobs",
    "dimensions",
    "echo",
    "response_format",
}


def send_requests(
    document: dict[str, Any],
    url: str,
    name: str,
    headers: dict[str, str] | None = None,
    examples: int = EXAMPLES,
) -> Counter[int]:
    """Send generated requests, valid and invalid, and count the statuses of the responses."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url, headers=headers)
    method, _, path = name.partition(" ")
    operation = schema[path][method]
    valid, invalid = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    statuses: Counter[int] = Counter()

    def send(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and case.meta.generation.mode is valid:
            kept = {key: case.body[key] for key in case.body if key not in NOT_GENERATED}
            case.body = {**kept, "messages": MESSAGES} if "messages" in kept else kept
        checks = CHECKS[1:] if name in NOT_SUPPORTED else CHECKS
        response = case.call_and_validate(session=session, checks=checks)
        statuses[response.status_code] += 1

    for mode in (valid, invalid) if operation.body else (valid,):
        strategy = operation.as_strategy(generation_mode=mode)
        run = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(case=strategy)(send))
        with requests.Session() as session:  # without one, each request takes 10 ms more
            run()
    return statuses


def list_operations(document: dict[str, Any]) -> list[str]:
    """List the operations as method and path."""
    paths = document["paths"].items()
    return [f"{method.upper()} {path}" for path, item in paths for method in item]


@pytest.mark.parametrize("name", OPERATIONS)
async def test_operation(small_model: Path, embedding_model: Path, name: str) -> None:
    """Every response of an operation conforms to the document."""
    engine = FakeMax(models=["smollm2-135m-instruct", EMBEDDING_MODEL])
    async with (
        start_with_embeddings(engine) as gateway,
        httpx.AsyncClient(base_url=gateway.url, verify=TLS, timeout=30) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        operations = list_operations(document)
        assert {o for o in operations if not ORGANIZATION.match(o)} == set(OPERATIONS)
        statuses = await asyncio.to_thread(send_requests, document, gateway.url, name)
        if name in NOT_SUPPORTED:
            assert NOT_SUPPORTED[name] - {404} <= statuses.keys() <= NOT_SUPPORTED[name]
        else:
            assert statuses[200] + statuses[204] or "{" in name or name in NEVER_OK


async def test_organization(tmp_path: Path) -> None:
    """Every response of the organization's operations conforms to the document."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    key = await StoredKeys(store).add_admin()
    await store.aclose()
    auth = {"mode": "keys", "pepper": [PEPPER]}
    async with (
        start(usage_store=FakeUsageStore(), auth=auth, state_dir=tmp_path) as gateway,
        httpx.AsyncClient(base_url=gateway.url, verify=TLS, timeout=30) as client,
    ):
        document = (await client.get("/openapi.json", headers=bearer(key))).json()
        for name in list_operations(document):
            if ORGANIZATION.match(name):
                arguments = (document, gateway.url, name, bearer(key), 12)
                statuses = await asyncio.to_thread(send_requests, *arguments)
                assert statuses[200] + statuses[204] > 0 or "{" in name or name in NO_SUCH_OBJECT, (
                    name
                )
                assert 403 not in statuses, name
