"""Chat completions: a request to the backend, its answer in OpenAI's shape."""

from collections.abc import AsyncGenerator

import orjson

from maxgate import ids
from maxgate.api.chat.converters import generation_request
from maxgate.api.chat.responses import ChatCompletionResponse, choice
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.stream import ChunkEnvelope
from maxgate.api.schemas import completion_usage
from maxgate.clock import Clock
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ModelCatalog
from maxgate.generation.collect import collect
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest


class ChatService:
    """Answers chat completion requests.

    Raises GatewayError as the catalog and the backend do.
    """

    def __init__(self, backend: Backend, catalog: ModelCatalog, clock: Clock) -> None:
        self._backend = backend
        self._catalog = catalog
        self._clock = clock

    async def complete(self, body: ChatCompletionRequest, context: RequestContext) -> bytes:
        """The whole answer, as JSON."""
        request = self._request(body, context)
        completion = await collect(self._backend, request)
        logprobs = bool(body.logprobs)
        response: ChatCompletionResponse = {
            "id": ids.chat_completion_id(),
            "object": "chat.completion",
            "created": int(self._clock.wall()),
            "model": request.model.name,
            "service_tier": "default",
            "system_fingerprint": None,
            "choices": [
                choice(number, answer, logprobs=logprobs)
                for number, answer in enumerate(completion.choices)
            ],
            "usage": completion_usage(completion.usage),
        }
        return orjson.dumps(response)

    def stream(self, body: ChatCompletionRequest, context: RequestContext) -> AsyncGenerator[bytes]:
        """The answer as events of a stream, ready to be sent."""
        request = self._request(body, context)
        envelope = ChunkEnvelope(
            model=request.model.name,
            created=int(self._clock.wall()),
            with_usage=body.wants_usage,
            choices=request.n,
        )
        return envelope.events(self._backend.stream(request))

    def _request(self, body: ChatCompletionRequest, context: RequestContext) -> GenerationRequest:
        context.record.stream = bool(body.stream)
        return generation_request(body, self._catalog.find(body.model, "chat"), context)
