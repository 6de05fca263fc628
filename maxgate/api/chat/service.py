"""Run chat completion requests and build OpenAI's responses."""

from collections.abc import AsyncGenerator

import orjson

from maxgate import ids
from maxgate.api.chat.converters import convert_request
from maxgate.api.chat.responses import ChatCompletionResponse, convert_choice
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.stream import ChatEventEncoder
from maxgate.api.model_access import restrict
from maxgate.api.principals import apply_fields
from maxgate.api.sampling import completion_usage
from maxgate.clock import Clock
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ModelCatalog
from maxgate.generation.collect import collect
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest


class ChatService:
    """Runs chat completion requests; raises what the catalog and the backend raise."""

    def __init__(self, backend: Backend, catalog: ModelCatalog, clock: Clock) -> None:
        self._backend = backend
        self._catalog = catalog
        self._clock = clock

    async def complete(self, body: ChatCompletionRequest, context: RequestContext) -> bytes:
        """Return the complete response as JSON."""
        request = self._convert(body, context)
        completion = await collect(self._backend, request)
        logprobs = bool(body.logprobs)
        response: ChatCompletionResponse = {
            "id": ids.chat_completion_id(),
            "object": "chat.completion",
            "created": int(self._clock.wall()),
            "model": request.model.name,
            "service_tier": context.principal.service_class,
            "system_fingerprint": None,
            "choices": [
                convert_choice(index, choice, logprobs=logprobs)
                for index, choice in enumerate(completion.choices)
            ],
            "usage": completion_usage(completion.usage),
        }
        return orjson.dumps(response)

    def stream(self, body: ChatCompletionRequest, context: RequestContext) -> AsyncGenerator[bytes]:
        """Stream the response as encoded events."""
        request = self._convert(body, context)
        encoder = ChatEventEncoder(
            model=request.model.name,
            service_tier=context.principal.service_class,
            created=int(self._clock.wall()),
            with_usage=body.wants_usage,
            running_usage=body.wants_running_usage,
            n=request.n,
            commit_line=context.commit_line,
        )
        return encoder.encode_events(self._backend.stream(request))

    def _convert(self, body: ChatCompletionRequest, context: RequestContext) -> GenerationRequest:
        context.record.stream = bool(body.stream)
        context.session = context.session or body.user
        if body.metadata:
            context.tags = body.metadata
        if body.user or body.service_tier or body.priority:
            apply_fields(context, body.user, body.service_tier, body.priority)
        catalog = self._catalog
        if context.models is not None or context.project_models is not None:
            catalog = restrict(catalog, context.models, context.project_models)
        model = catalog.find(body.model, "chat")
        context.model = model.name
        return convert_request(body, model, context)
