"""POST /v1/moderations."""

from starlette.types import Receive, Scope, Send

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.hot_route import HotRoute, measure_body, send_json
from maxgate.api.moderations.schemas import ModerationRequestBody, ModerationResponse
from maxgate.api.moderations.service import ModerationService
from maxgate.api.request_body import BodyReader
from maxgate.generation.catalog import ModelStarts
from maxgate.generation.errors import ModelNotRunning


def moderation_route(
    service: ModerationService, bodies: BodyReader, starts: ModelStarts
) -> HotRoute:
    """Build the route for moderations."""

    async def create_moderation(scope: Scope, receive: Receive, send: Send) -> None:
        body = await bodies.read(scope, receive, ModerationRequestBody)
        context = scope["state"]["context"]
        async with DisconnectWatch(scope, receive):
            while True:
                try:
                    response = await service.create(body, context)
                except ModelNotRunning as stopped:
                    await starts.wait(stopped.model, context, size=measure_body(scope, body))
                else:
                    break
        await send_json(send, response)

    return HotRoute(
        "/v1/moderations",
        create_moderation,
        name="create_moderation",
        description="""
            Judge whether texts are safe, by a model whose card has `task: moderation`.

            `category_scores` of categories that were found are the probability that the text is
            unsafe; all others are 0.
        """,
        body=ModerationRequestBody,
        response=ModerationResponse,
        tag="moderations",
    )
