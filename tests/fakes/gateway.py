"""The whole gateway over HTTP, in front of a fake MAX."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from maxgate.app import create_app
from maxgate.settings import Settings
from maxgate.stores.usage import UsageStore
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

SMALL_CARD = Path(__file__).parents[2] / "models" / "smollm2-135m-instruct.yaml"
EMBEDDING_CARD = SMALL_CARD.with_name("all-minilm-l6-v2.yaml")
TLS = ssl.create_default_context()  # unused, but creating one per httpx client takes 25 ms
EMBEDDING_MODEL = "all-minilm-l6-v2"


@dataclass
class Gateway:
    """A running gateway and its engine."""

    url: str
    engine: FakeMax
    client: httpx.AsyncClient

    async def chat(self, **fields: Any) -> httpx.Response:
        """Send a chat request."""
        body = {"messages": [{"role": "user", "content": "Hello"}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    async def embed(self, inputs: Any, **fields: Any) -> httpx.Response:
        """Send an embeddings request."""
        return await self.client.post("/v1/embeddings", json={"input": inputs, **fields})


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@asynccontextmanager
async def start(
    engine: FakeMax | None = None,
    usage_store: UsageStore | None = None,
    span_processor: Any = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway with these settings in front of this engine.

    `usage_store` is its database of usage, and `span_processor` gets its traces.
    """
    engine = engine or FakeMax()
    async with serving(engine) as engine_url:
        chosen = Settings(**{"engines": [engine_url], "cards": [SMALL_CARD], **settings})
        async with (
            serving(
                create_app(chosen, usage_store=usage_store, span_processor=span_processor)
            ) as url,
            httpx.AsyncClient(base_url=url, verify=TLS, timeout=30) as client,
        ):
            yield Gateway(url, engine, client)


@asynccontextmanager
async def start_with_embeddings(
    engine: FakeMax | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway whose engine serves an embedding model."""
    engine = engine or FakeMax(models=[EMBEDDING_MODEL], context_length=256)
    async with start(engine, **{"cards": [SMALL_CARD, EMBEDDING_CARD], **settings}) as gateway:
        yield gateway
