"""OpenAI's Python client for a gateway."""

import openai


def create_client(url: str) -> openai.AsyncOpenAI:
    """Create a client of the gateway at this URL, without retries; the caller closes it."""
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
