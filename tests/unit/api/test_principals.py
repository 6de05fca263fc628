"""Headers and body fields identify the caller and order its requests."""

import os
import subprocess
import sys
from array import array
from dataclasses import replace
from typing import Any

import pytest

from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.service import ChatService
from maxgate.api.client_headers import ClientHeaders
from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.completions.service import CompletionService
from maxgate.api.embeddings.schemas import EmbeddingRequestBody
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.principals import apply_fields, identify_by_header
from maxgate.generation.backend import EmbeddingRequest, Embeddings
from maxgate.generation.catalog import ServedModel, Task
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.context import ANONYMOUS, Principal, RequestContext
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.requests import request_context, served_model

KEY = b"Bearer sk-secret"
FIELDS = {"user": "ann", "service_tier": "flex", "priority": -3}


class OneModel:
    """A catalog of one model for every task."""

    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        return served_model()

    def list(self) -> list[ServedModel]:
        return [served_model()]


class ZeroEmbedder:
    """Embeds everything as zero."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        return Embeddings(tuple(array("f", [0]) for _ in request.inputs), 1)


def backend() -> FakeBackend:
    """Generate one token."""
    return FakeBackend([Chunk(text="a", finish_reason="stop", usage=Usage(1, 1))])


def identify_user(user: str) -> Principal:
    """Return the principal of a request with this `user` and no header."""
    context = request_context()
    apply_fields(context, user)
    return context.principal


def test_header() -> None:
    """The hash of the Authorization header is both tenant and project; nothing else changes."""
    context = request_context()
    ClientHeaders().apply({b"authorization": KEY}, context)
    tenant = context.principal.tenant_id
    assert context.principal == replace(ANONYMOUS, tenant_id=tenant, project_id=tenant)
    assert len(tenant) == 32
    assert int(tenant, 16)


@pytest.mark.parametrize("length", [20, 10_000])
def test_tenants(length: int) -> None:
    """Equal headers are one tenant, different headers are two."""
    one, other = (identify_by_header(end * length).tenant_id for end in (b"a", b"b"))
    assert identify_by_header(b"a" * length).tenant_id == one != other


def test_other_process() -> None:
    """Every worker and gateway derives the same tenant from a header."""
    program = (
        "from maxgate.api.principals import identify_by_header;"
        f"print(identify_by_header({KEY!r}).tenant_id)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert output.strip() == identify_by_header(KEY).tenant_id


def test_empty_values() -> None:
    """An empty header and an empty `user` leave the caller anonymous."""
    context = request_context()
    ClientHeaders().apply({b"authorization": b""}, context)
    apply_fields(context, "", None, None)
    assert (context.principal, context.priority) == (ANONYMOUS, 0)


def test_user() -> None:
    """Without the header, `user` is the tenant; its value is not that of a header."""
    ann = identify_user("ann")
    assert ann == identify_user("ann")
    assert len({ann, identify_user("bob"), ANONYMOUS, identify_by_header(b"ann")}) == 4


def test_header_outranks_user() -> None:
    """With the header, `user` and the class do not change the tenant."""
    context = request_context()
    context.principal = identify_by_header(KEY)
    apply_fields(context, "ann", "flex")
    assert context.principal == replace(identify_by_header(KEY), service_class="flex")


@pytest.mark.parametrize(
    ("tier", "service_class"),
    [
        (None, "default"),
        ("auto", "default"),
        ("default", "default"),
        ("flex", "flex"),
        ("priority", "priority"),
        ("fast", "priority"),
    ],
)
def test_service_tier(tier: Any, service_class: str) -> None:
    """Each tier has a class; `auto` is the caller's own and `fast` is `priority`."""
    context = request_context()
    apply_fields(context, None, tier)
    assert context.principal == replace(ANONYMOUS, service_class=service_class)


def test_auto_keeps_class() -> None:
    """The tier `auto` keeps the class of the caller, `default` does not."""
    context = request_context()
    context.principal = replace(ANONYMOUS, service_class="flex")
    apply_fields(context, None, "auto")
    assert context.principal.service_class == "flex"
    apply_fields(context, None, "default")
    assert context.principal.service_class == "default"


async def run_chat(context: RequestContext, **fields: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], **fields}
    service = ChatService(backend(), OneModel(), FakeClock())
    await service.complete(ChatCompletionRequest.model_validate(body), context)


async def run_completion(context: RequestContext, **fields: Any) -> None:
    service = CompletionService(backend(), OneModel(), FakeClock())
    await service.complete(CompletionRequest.model_validate({"prompt": "a", **fields}), context)


async def run_embedding(context: RequestContext, **fields: Any) -> None:
    body = EmbeddingRequestBody.model_validate({"input": "a", **fields})
    await EmbeddingService(ZeroEmbedder(), OneModel()).create(body, context)


@pytest.mark.parametrize("run", [run_chat, run_completion])
@pytest.mark.parametrize("names", [["user"], ["service_tier"], ["priority"], list(FIELDS)])
async def test_generation_routes(run: Any, names: list[str]) -> None:
    """Chat and completions take any of the fields."""
    fields: dict[str, Any] = {name: FIELDS[name] for name in names}
    context, expected = request_context(), request_context()
    await run(context, **fields)
    apply_fields(expected, fields.get("user"), fields.get("service_tier"), fields.get("priority"))
    assert (context.principal, context.priority) == (expected.principal, expected.priority)
    assert (context.principal, context.priority) != (ANONYMOUS, 0)


async def test_embeddings() -> None:
    """Embeddings take `user` only, as at OpenAI."""
    context = request_context()
    await run_embedding(context, user="ann")
    assert context.principal == identify_user("ann")


@pytest.mark.parametrize("run", [run_chat, run_completion, run_embedding])
async def test_no_fields(run: Any) -> None:
    """Without the fields, the context stays as the headers left it."""
    context = request_context()
    context.principal = identify_by_header(KEY)
    await run(context)
    assert (context.principal, context.priority) == (identify_by_header(KEY), 0)


@pytest.mark.parametrize(
    ("highest", "tier", "expected"),
    [
        ("priority", "priority", "priority"),
        ("default", "priority", "default"),
        ("default", "fast", "default"),
        ("default", "flex", "flex"),
        ("flex", "priority", "flex"),
        ("flex", "default", "flex"),
        ("flex", "auto", "flex"),
    ],
)
def test_highest_class(highest: Any, tier: Any, expected: str) -> None:
    """A tier never raises a request above the class that the caller's key names."""
    context = request_context()
    context.principal = Principal("a", "a", "a", "key", highest, highest)
    apply_fields(context, "ann", tier)
    assert context.principal == Principal("a", "a", "a", "key", expected, highest)  # type: ignore[arg-type]


def test_authenticated_header() -> None:
    """The header of an authenticated caller does not change who it is."""
    context = request_context()
    context.principal = principal = Principal("a", "a", "a", "key", "default")
    headers = ClientHeaders(identifies=False)
    headers.apply({b"authorization": KEY}, context)
    assert context.principal is principal
    assert b"authorization" not in headers.names
