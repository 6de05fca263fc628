"""Measure the CPU time of a request in each way of serving a route with FastAPI.

    python -m benchmarks.dispatch [--rounds 7] [--calls 3000] [--json]

Each arrangement is an ASGI application called in this process, without sockets: it validates the
same JSON body with pydantic and responds with the same JSON. CPU time per call is the median of
the rounds; in each round every arrangement is measured once.
"""

import argparse
import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maxgate.api.app import Gateway, HotRoute, send_json
from maxgate.api.connection import EXTENSION
from maxgate.api.middleware import RequestContextMiddleware
from maxgate.clock import SystemClock

PATH = "/v1/echo"
WARM_UP_CALLS = 200


class EchoMessage(BaseModel):
    """One message of a conversation."""

    role: str
    content: str


class EchoRequest(BaseModel):
    """A body of the size and shape of a short chat request."""

    model: str
    messages: list[EchoMessage]
    temperature: float = 1.0
    max_tokens: int | None = None


class EchoResponse(BaseModel):
    """The content of the last message."""

    model: str
    content: str


BODY = json.dumps(
    {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 32,
    }
).encode()


def respond(body: EchoRequest) -> EchoResponse:
    """Build the response of every arrangement."""
    return EchoResponse(model=body.model, content=body.messages[-1].content)


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    """Handle the request as plain ASGI."""
    body = (await receive())["body"]
    response = respond(EchoRequest.model_validate_json(body))
    await send_json(send, response.model_dump_json().encode())


def build_hot_route() -> HotRoute:
    """Wrap the ASGI handler in a route that FastAPI documents."""
    return HotRoute(PATH, echo, body=EchoRequest, response=EchoResponse, tag="echo")


def build_full_stack() -> ASGIApp:
    """Serve the hot route through FastAPI's middleware stack and router."""
    app = FastAPI()
    app.router.routes.append(build_hot_route())
    return app


def build_context_only() -> ASGIApp:
    """Wrap the ASGI handler in the gateway's middleware, without FastAPI."""
    return RequestContextMiddleware(echo, (), SystemClock())


def build_gateway() -> ASGIApp:
    """Serve the hot route as the gateway does: its middleware, then hot dispatch."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = Gateway(sinks=(), clock=SystemClock(), lifespan=lifespan)
    app.add_hot_route(build_hot_route())
    return app


def build_request_endpoint() -> ASGIApp:
    """Serve an endpoint that reads the body from a Request."""
    app = FastAPI()

    @app.post(PATH)
    async def echo_request(request: Request) -> Response:
        response = respond(EchoRequest.model_validate_json(await request.body()))
        return Response(response.model_dump_json(), media_type="application/json")

    return app


def build_body_endpoint() -> ASGIApp:
    """Serve an endpoint with a body model."""
    app = FastAPI()

    @app.post(PATH)
    async def echo_body(body: EchoRequest) -> Response:
        return Response(respond(body).model_dump_json(), media_type="application/json")

    return app


def build_model_endpoint() -> ASGIApp:
    """Serve an endpoint with a body model and a response model."""
    app = FastAPI()

    @app.post(PATH)
    async def echo_model(body: EchoRequest) -> EchoResponse:
        return respond(body)

    return app


ARRANGEMENTS = {
    "bare ASGI handler": lambda: echo,
    "HotRoute of a FastAPI app, full Starlette stack": build_full_stack,
    "bare ASGI handler in RequestContextMiddleware": build_context_only,
    "HotRoute of Gateway: the same middleware, hot dispatch": build_gateway,
    "FastAPI endpoint with Request": build_request_endpoint,
    "FastAPI endpoint with a body model": build_body_endpoint,
    "FastAPI endpoint with a body and a response model": build_model_endpoint,
}


def build_scope() -> Scope:
    """Return the scope of one request, as `maxgate serve` makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(BODY)),
            (b"authorization", b"Bearer none"),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        # The server has checked the headers, so that the middleware does not check them again.
        "extensions": {EXTENSION: None},
    }


async def call(app: ASGIApp, calls: int) -> tuple[float, list[Message]]:
    """Send requests one after the other; returns CPU seconds and the messages of the last one."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    scopes = [build_scope() for _ in range(calls)]
    gc.collect()
    began = time.process_time()
    for scope in scopes:
        messages.clear()
        await app(scope, receive, send)
    return time.process_time() - began, messages


async def measure(rounds: int, calls: int) -> dict[str, float]:
    """Return the median CPU microseconds per call of each arrangement."""
    apps = {name: build() for name, build in ARRANGEMENTS.items()}
    expected = {"model": "smollm2-135m-instruct", "content": "What is the capital of France?"}
    for name, app in apps.items():
        _, messages = await call(app, WARM_UP_CALLS)
        content = b"".join(message.get("body", b"") for message in messages)
        if messages[0]["status"] != 200 or json.loads(content) != expected:
            raise SystemExit(f"{name}: unexpected response {content[:200]!r}")
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, app in apps.items():
            seconds, _ = await call(app, calls)
            samples[name].append(seconds / calls * 1e6)
    return {name: round(statistics.median(values), 2) for name, values in samples.items()}


def format_table(found: dict[str, float]) -> str:
    """Lay out the medians as a Markdown table, with the difference from the first one."""
    base = next(iter(found.values()))
    lines = ["| arrangement | µs | over the bare handler |", "| --- | ---: | ---: |"]
    for name, value in found.items():
        added = "" if value == base else f"{value - base:+.1f}"
        lines.append(f"| {name} | {value:.1f} | {added} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dispatch", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument(
        "--calls", type=int, default=3000, help="calls per arrangement and round (default: 3000)"
    )
    parser.add_argument("--json", action="store_true", help="print the medians as JSON")
    options = parser.parse_args()
    found = asyncio.run(measure(options.rounds, options.calls))
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else format_table(found))


if __name__ == "__main__":
    main()
