"""LangChain's client with connections of its own; by default the process shares them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI


@asynccontextmanager
async def chat_model(
    url: str, model: str = "smollm2", **fields: object
) -> "AsyncIterator[ChatOpenAI]":
    """Yield a chat model of the gateway at this URL."""
    from langchain_openai import ChatOpenAI  # slow to import

    with httpx.Client() as http:
        async with httpx.AsyncClient() as http_async:
            yield ChatOpenAI(
                base_url=url + "/v1",
                api_key="none",
                model=model,
                max_retries=0,
                http_client=http,
                http_async_client=http_async,
                **fields,
            )
